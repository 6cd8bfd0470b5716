//go:build !goexperiment.swissmap && !go1.26

package truth

// Swiss says which of the two layouts this toolchain builds.
const Swiss = false
