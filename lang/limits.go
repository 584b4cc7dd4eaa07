package lang

// The sizes at which the original refuses a token.
const (
	maxWord   = 8095 // bytes of a bare word or a number
	maxQuoted = 8094 // bytes of a quoted string
	maxName   = 8093 // bytes of the name in a macro reference
)

// MaxInput is how much text is read at most.
const MaxInput = 64 << 20

// Limits of our own: the original has none and runs out of memory or
// descriptors instead. Nobody has come near them with a configuration that
// was meant.
const (
	maxInput    = MaxInput // bytes of all files together
	maxExpanded = 64 << 20 // bytes of all macro expansions together
	maxNesting  = 200      // files open at once
	maxIncludes = 100_000  // include statements carried out
	maxErrors   = 10_000   // statements that are wrong
	maxBinary   = 10       // of them if there are NUL bytes, too
)
