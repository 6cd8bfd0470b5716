//go:build go1.23

package main

import "sync"

const lastSync = syncClear

func clearSync(m *sync.Map) { m.Clear() }
