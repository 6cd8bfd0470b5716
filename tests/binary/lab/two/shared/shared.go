// Package shared has the same name as another one.
package shared

// T is one of two types that the runtime calls shared.T.
type T struct{ Two string }

type hidden int

// Hider asks for a method that only this package can have.
type Hider interface{ hide(hidden) T }
