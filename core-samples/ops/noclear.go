//go:build !go1.23

package main

import "sync"

// sync.Map has no Clear before Go 1.23.
const lastSync = syncRange

func clearSync(*sync.Map) { panic("there is no Clear") }
