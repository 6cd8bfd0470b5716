//go:build cgolab

package main

/*
#include <stdlib.h>

static int twice(int n) { return 2 * abs(n); }
*/
import "C"

func init() { every = append(every, int(C.twice(21))) }
