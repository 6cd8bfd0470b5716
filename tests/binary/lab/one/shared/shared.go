// Package shared has the same name as another one.
package shared

// T is one of two types that the runtime calls shared.T.
type T struct{ One int }
