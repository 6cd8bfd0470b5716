//go:build !go1.25

package main

import "os"

// record: flight recorders came with Go 1.25.
func record(*os.File) func() { panic("no flight recorder before Go 1.25") }
