// Package old owns the nodes of a configuration in the language before
// OpenSMTPD 6.4. Two grammars fill them, those of lang/gen1 and lang/gen2;
// compile/migrate turns them into the present language, and compile/legacy
// into a rule table by the rules of their own time. Nothing here decides what
// a statement means.
//
// The zero value of every optional part means "not written".
package old

import "smtpd/lang/token"

// A Dialect is a state of the old language that some release or snapshot
// spoke, in order of time. Releases that differ in meaning differ here.
type Dialect uint8

// The dialects.
const (
	D1A  Dialect = iota + 1 // early 2009
	D1B                     // November 2009 to mid 2011
	D1C                     // August 2011 to May 2012
	D1D                     // May to October 2012
	D1E                     // October 2012, 5.2.1
	D53                     // 5.3
	D54                     // 5.4
	D541                    // 5.4.1 to 5.4.6
	D57                     // 5.7.1 to 5.9.2
	D60                     // 6.0 to 6.3 of OpenBSD
	D603                    // 6.0.3
)

var dialectNames = [...]string{"", "2009", "2009-11", "2011-08", "2012-05", "5.2", "5.3", "5.4", "5.4.1", "5.7", "6.0", "6.0.3"}

// String returns the release, or the date of the tree, that d begins with.
func (d Dialect) String() string { return dialectNames[d] }

// Generation returns 1 or 2.
func (d Dialect) Generation() int {
	if d < D53 {
		return 1
	}
	return 2
}

// A File is a whole configuration: the statements of the main file and of all
// that it includes, in the order of the token stream.
type File struct {
	Name    string
	Dialect Dialect
	Stmts   []*Stmt
	Set     *token.FileSet

	Files    []string // the main file and those it includes, each once
	Comments []Comment
}

// A Comment is one in the text, with its #. Alone says that nothing stands
// before it on its line.
type Comment struct {
	Pos, End token.Pos
	Text     string
	Alone    bool
}

// A Stmt is one statement; exactly one of its parts is set. Start is its
// first token, End the place of the newline after it.
type Stmt struct {
	Start, End token.Pos

	Macro   *Macro
	Include *Str
	Setting *Setting
	PKI     *PKI
	CA      *CA
	Table   *Table
	Filter  *Filter
	Listen  *Listen
	Rule    *Rule
	Present *Present
}

// A Str is a string, or a number where either may stand.
type Str struct {
	Pos, End token.Pos
	Text     string
	Number   bool
	Quoted   bool

	// Macro is how the string is written if a macro is in it: the
	// reference, with what follows it without a blank. It is empty if the
	// string is only a part of what the macro stands for.
	Macro string
}

// A Macro is NAME = VALUE.
type Macro struct {
	Name, Value Str
	Shape       Shape
	List        *TableArg // of a ListShape
}

// A Shape says what the value of a macro reads as.
type Shape uint8

// The shapes.
const (
	OtherShape   Shape = iota // several words, or none: it can only be written out
	PlainShape                // one string or number, or a list, that reads the same now
	KeywordShape              // one word that the present language reserves
	ListShape                 // a list that must be written in another way now
)

// A TableArg is a table as an argument: a name, or a list in braces or of
// one string.
type TableArg struct {
	Pos, End token.Pos
	Ref      *Str
	Elems    []*Elem
	Braces   bool   // Elems were written as a list
	Macro    string // how the list is written if it is what a macro stands for
}

// An Elem is one element: a string, or a key and a value.
type Elem struct {
	Key   Str
	Value *Str
}

// A Setting is what holds for the whole server. Word is its keyword, and the
// other parts are what that takes.
type Setting struct {
	Word   string // "expire", "queue compression", "limit mta", …
	Args   []*Str
	Domain *Str // limit mta for domain
}

// A PKI adds to a named certificate.
type PKI struct {
	Name    Str
	Options []PKIOption
}

// A PKIOption is a part of a certificate: Word is certificate, key, ca,
// dhparams or dhe.
type PKIOption struct {
	Word  string
	Value Str
}

// A CA is a named authority file.
type CA struct {
	Name, Cert Str
}

// A Table declares a table. Exactly one of Spec, Elems and Source is set.
type Table struct {
	Name  Str
	Spec  *Str // as today: backend:path or a path
	Elems *TableArg

	// Generation 1, map NAME source KIND PATH.
	Source string // db, plain, file; "" with neither of the others: it does nothing
	Path   *Str
}

// A Filter is a statement about filters, which have no successor in kind.
// Words are its tokens as written.
type Filter struct {
	Name string // of the filter
	Prog string // "" for a chain
	Text string
}

// A Listen declares a listener.
type Listen struct {
	Socket       bool
	On           Str
	Family       string // inet4, inet6
	Port         *Str
	TLS          string // smtps, tls, tls-require, secure, ssl
	Verify       bool
	Certificate  *Str
	PKI, CA      *Str
	Auth         string // auth, auth-optional
	AuthTable    *TableArg
	Tag          *Str
	Hostname     *Str
	Hostnames    *TableArg
	Senders      *TableArg
	Masquerade   bool
	MaskSource   bool
	ReceivedAuth bool
	NoDSN        bool
	Filter       *Str
	DSNNotify    bool // dsn-notify disable
	DSNRet       bool // dsn-ret headers
}

// A Rule is accept or reject.
type Rule struct {
	Reject    bool
	Tag       *Str
	NotTag    bool
	Auth      bool // authenticated, or with NotAuth its negation
	NotAuth   bool
	From      *From
	For       []*For // more than one for a block of generation 1
	Sender    *Addresses
	Recipient *Addresses

	Alias, Virtual, Userbase *TableArg
	Action                   *Action
	Expire                   *Str
	ForwardOnly              bool
}

// A From says where mail comes from.
type From struct {
	Not        bool
	Any, Local bool
	Source     *TableArg
}

// A For says where mail goes.
type For struct {
	Not        bool
	Any, Local bool
	Domain     *TableArg
	Virtual    *TableArg // generation 1: the domains that the map has
	Network    *TableArg // generation 1: never matches
}

// Addresses are senders or recipients.
type Addresses struct {
	Not   bool
	Table *TableArg
}

// A Method is how an action delivers.
type Method uint8

// The methods.
const (
	MBox Method = iota + 1
	Maildir
	LMTP
	MDA
	Relay
	RelayBackup
	RelayVia
)

// An Action says what is done with mail.
type Action struct {
	Method Method
	Arg    *Str // path, destination or command; of RelayBackup the name, of RelayVia the host or URL
	RcptTo bool // lmtp rcpt-to
	User   *Str

	Port      *Str   // relay via HOST port P
	Transport string // relay via HOST tls: smtps, tls, ssl
	TLS       bool   // relay tls
	Verify    bool
	Cert      *Str // certificate
	PKI, CA   *Str
	Auth      *TableArg
	EnabAuth  bool // enable auth: the map called secrets
	As        *Str
	Source    *TableArg
	Helo      *TableArg // helo, hostnames
	Hostname  *Str
}

// A Present is a statement that the present language has too, in the same
// words: published files mix them. Text is as it was written.
type Present struct {
	Text string
}
