//go:build cgosample

package truth

// int mapscope_sample(int n) { return n + 1; }
import "C"

// With the tag cgosample every sample is linked by the system's linker and has C units in its DWARF.
func init() {
	if C.mapscope_sample(1) != 2 {
		panic("C code does not run")
	}
}
