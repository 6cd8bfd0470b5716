// Program cgo crashes inside C. Its symbolizer names the C frames, whose addresses its traceback function makes up: one
// with a name, one of C++ with blanks in it, one whose name looks like a call of Go's, one with a place and no name, one
// with nothing.
package main

/*
#include <stdint.h>

struct traceback { uintptr_t context, signal; uintptr_t *buf; uintptr_t max; };
struct symbol { uintptr_t pc; const char *file; uintptr_t line; const char *func; uintptr_t entry, more, data; };

static void traceback(void *p) {
	struct traceback *arg = p;
	static const uintptr_t pcs[] = { 0x1001, 0x2002, 0x3003, 0x4004, 0x5005, 0 };
	uintptr_t n;
	for (n = 0; n < 6 && n < arg->max; n++)
		arg->buf[n] = pcs[n];
}

static void symbolize(void *p) {
	struct symbol *arg = p;
	arg->file = 0; arg->line = 0; arg->func = 0; arg->entry = 0; arg->more = 0;
	switch (arg->pc) {
	case 0x1001: arg->func = "read_block"; arg->file = "/src/native.c"; arg->line = 7; break;
	case 0x2002: arg->func = "std::map<int, page*>::at(int const&) const"; arg->file = "/usr/include/c++/map"; arg->line = 541; break;
	case 0x3003: arg->func = "store.load(0x1)"; arg->file = "/src/store.cc"; arg->line = 30; break;
	case 0x4004: arg->file = "/src/nameless.s"; arg->line = 2; break;
	}
}

static void crash(void) { *(volatile int *)8 = 1; }

static void *traceback_function(void) { return (void *)traceback; }
static void *symbolize_function(void) { return (void *)symbolize; }
*/
import "C"

import "runtime"

//go:noinline
func callC() { C.crash() }

func main() {
	runtime.SetCgoTraceback(0, C.traceback_function(), nil, C.symbolize_function())
	callC()
}
