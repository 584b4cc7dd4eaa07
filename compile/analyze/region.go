package analyze

import "errors"

// ErrNotAsked is the answer of a table that has to be asked where nobody
// asks.
var ErrNotAsked = errors.New("its content is not known here")
