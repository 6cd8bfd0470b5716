//go:build cgosample

package main

/*
#include <pthread.h>
#include <stdint.h>

void situationsCalled(int depth);
void situationsCalledByThread(int depth);

void situations_call(int depth) { situationsCalled(depth); }

static void *body(void *depth) {
	situationsCalledByThread((int)(intptr_t)depth);
	return 0;
}

void situations_thread(int depth) {
	pthread_t thread;
	pthread_create(&thread, 0, body, (void *)(intptr_t)depth);
}
*/
import "C"
