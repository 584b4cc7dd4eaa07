// Package ast owns the nodes of a configuration as it was written. The
// parser's grammar is the struct tags of this package: participle fills the
// nodes, and the published grammar is printed from them. compile reads the
// tree, the formatter and the language server walk it. Nothing here decides
// what a statement means, and nothing here looks up a name.
//
// The zero value of every optional part means "not written".
package ast

import "smtpd/lang/token"

// A File is a whole configuration: the statements of the main file and of all
// that it includes, in the order of the token stream.
type File struct {
	Name  string
	Stmts []*Stmt
	Set   *token.FileSet

	// Lost says that text was not read, and that this was reported: what is
	// missing may have been there.
	Lost bool
}

// A Stmt is one statement; exactly one of its parts is set. EndPos is the
// place of the newline that ends it.
type Stmt struct {
	Pos token.Pos

	Macro     *Macro     `parser:"  @@"`
	Include   *Include   `parser:"| @@"`
	ADMD      *ADMD      `parser:"| @@"`
	Bounce    *Bounce    `parser:"| @@"`
	CA        *CA        `parser:"| @@"`
	PKI       *PKI       `parser:"| @@"`
	MDA       *MDA       `parser:"| @@"`
	MTA       *MTA       `parser:"| @@"`
	Queue     *Queue     `parser:"| @@"`
	Scheduler *Scheduler `parser:"| @@"`
	SMTP      *SMTP      `parser:"| @@"`
	SRS       *SRS       `parser:"| @@"`
	Proc      *Proc      `parser:"| @@"`
	Filter    *Filter    `parser:"| @@"`
	Table     *Table     `parser:"| @@"`
	Listen    *Listen    `parser:"| @@"`
	Action    *Action    `parser:"| @@"`
	Match     *Match     `parser:"| @@"`

	// Bad is a statement that was reported and could not be parsed.
	Bad *Bad

	EndPos token.Pos
}

// A Bad statement keeps the strings it held: names that it may have been
// meant to declare, so that their uses are not reported a second time.
type Bad struct {
	Keyword string // its first word, if that was one
	Strings []string
	Rest    bool // quotes or braces were never closed, and took the text after them

	// Part is what was complete before the token at which the statement
	// was given up, where it ends: it can be wrong too. It is not a
	// statement, and is neither printed nor inspected.
	Part *Stmt
}

// A Str is a string token, bare or quoted.
type Str struct {
	Pos    token.Pos
	Text   string `parser:"@(Word | String)"`
	EndPos token.Pos
}

// A Num is a number token. Text is kept: it need not fit any type.
type Num struct {
	Pos    token.Pos
	Text   string `parser:"@Number"`
	EndPos token.Pos
}

// A TableArg is a table as an argument: a name in angle brackets, a list in
// braces, or one string.
type TableArg struct {
	Pos    token.Pos
	Str    *Str  `parser:"  @@"`
	List   *List `parser:"| @@"`
	Ref    *Str  `parser:"| '<':Punct @@ '>':Punct"`
	EndPos token.Pos
}

// A List is what stands in braces. Lists of strings and lists of pairs have
// one grammar; that they are not mixed is checked after parsing.
type List struct {
	Pos    token.Pos
	Elems  []*Elem `parser:"'{':Punct @@ ( Sep? @@ )* '}':Punct"`
	EndPos token.Pos
}

// An Elem is one element: a string, or a key and a value.
type Elem struct {
	Key   Str  `parser:"@@"`
	Value *Str `parser:"( ( '=':Punct | '=>':Punct ) @@ )?"`
}

// A Macro is NAME = VALUE.
type Macro struct {
	Name  Str `parser:"@@ '=':Punct"`
	Value Str `parser:"@@"`
}

// An Include reads another file.
type Include struct {
	Path Str `parser:"'include':Keyword @@"`
}

// An ADMD names the administrative domain.
type ADMD struct {
	Name Str `parser:"'admd':Keyword @@"`
}

// A Bounce lists the ages at which a delay is reported.
type Bounce struct {
	Delays []*Str `parser:"'bounce':Keyword 'warn-interval':Keyword @@ ( ',':Punct @@ )*"`
}

// A CA is a named authority file.
type CA struct {
	Name Str `parser:"'ca':Keyword @@"`
	Cert Str `parser:"'cert':Keyword @@"`
}

// A PKI declares, or adds to, a named certificate.
type PKI struct {
	Name    Str          `parser:"'pki':Keyword @@"`
	Options []*PKIOption `parser:"@@*"`
}

// A PKIOption is one part of a certificate.
type PKIOption struct {
	Pos    token.Pos
	Cert   *Str `parser:"  'cert':Keyword @@"`
	Key    *Str `parser:"| 'key':Keyword @@"`
	DHE    *Str `parser:"| 'dhe':Keyword @@"`
	EndPos token.Pos
}

// A Limit is one named limit.
type Limit struct {
	Name  Str `parser:"@@"`
	Value Num `parser:"@@"`
}

// An MDA declares a wrapper or sets limits of local delivery.
type MDA struct {
	Wrapper *Wrapper `parser:"'mda':Keyword ( @@"`
	Limit   *Limits  `parser:"| 'limit':Keyword @@ )"`
}

// Limits is a list of limits, possibly empty.
type Limits struct {
	Pos    token.Pos
	Limits []*Limit `parser:"@@*"`
	EndPos token.Pos
}

// A Wrapper is a named command around delivery commands.
type Wrapper struct {
	Name    Str `parser:"'wrapper':Keyword @@"`
	Command Str `parser:"@@"`
}

// An MTA sets limits of remote delivery.
type MTA struct {
	MaxDeferred *Num       `parser:"'mta':Keyword ( 'max-deferred':Keyword @@"`
	Limit       *MTALimits `parser:"| 'limit':Keyword @@ )"`
}

// MTALimits are limits for all domains or for one.
type MTALimits struct {
	Pos    token.Pos
	Domain *Str        `parser:"( 'for':Keyword 'domain':Keyword @@ )?"`
	Limits []*MTALimit `parser:"@@*"`
	EndPos token.Pos
}

// An MTALimit is a named limit or an address family.
type MTALimit struct {
	Family string `parser:"  @( 'inet4':Keyword | 'inet6':Keyword )"`
	Limit  *Limit `parser:"| @@"`
}

// A Queue sets how mail is kept.
type Queue struct {
	Compression bool        `parser:"'queue':Keyword ( @'compression':Keyword"`
	Encryption  *Encryption `parser:"| @@"`
	TTL         *Str        `parser:"| 'ttl':Keyword @@ )"`
}

// An Encryption may give its key.
type Encryption struct {
	Pos    token.Pos
	Key    *Str `parser:"'encryption':Keyword @@?"`
	EndPos token.Pos
}

// A Scheduler sets limits of the scheduler.
type Scheduler struct {
	Limit *Limits `parser:"'scheduler':Keyword 'limit':Keyword @@"`
}

// An SMTP sets what holds for every listener.
type SMTP struct {
	Limit          *Limits `parser:"'smtp':Keyword ( 'limit':Keyword @@"`
	Ciphers        *Str    `parser:"| 'ciphers':Keyword @@"`
	MaxMessageSize *Size   `parser:"| 'max-message-size':Keyword @@"`
	SubAddrDelim   *Str    `parser:"| 'sub-addr-delim':Keyword @@"`
	BareLF         *BareLF `parser:"| @@ )"`
}

// A BareLF names the sources whose lines may end in LF alone.
type BareLF struct {
	Pos  token.Pos
	From *TableArg `parser:"'bare-lf-from':Word @@"`
}

// A Size is a number or a string with a unit.
type Size struct {
	Num *Num `parser:"  @@"`
	Str *Str `parser:"| @@"`
}

// An SRS sets keys and lifetime of sender rewriting.
type SRS struct {
	Key    *Str `parser:"'srs':Keyword ( 'key':Keyword ( @@"`
	Backup *Str `parser:"| 'backup':Keyword @@ )"`
	TTL    *Str `parser:"| 'ttl':Keyword @@ )"`
}

// A Proc declares a filter process.
type Proc struct {
	Name    Str           `parser:"'proc':Keyword @@"`
	Command Str           `parser:"@@"`
	Options []*ProcOption `parser:"@@*"`
}

// A ProcOption says how a filter process runs.
type ProcOption struct {
	Pos    token.Pos
	User   *Str `parser:"  'user':Keyword @@"`
	Group  *Str `parser:"| 'group':Keyword @@"`
	Chroot *Str `parser:"| 'chroot':Keyword @@"`
	EndPos token.Pos
}

// A Filter declares a filter: a use of a process, a process of its own, a
// milter, a chain, or a built-in one.
type Filter struct {
	Name      Str        `parser:"'filter':Keyword @@"`
	Proc      *Str       `parser:"( ( 'proc':Keyword @@"`
	ProcExec  *ProcExec  `parser:"| @@"`
	Milter    *Milter    `parser:"| @@ )"`
	OnFailure *OnFailure `parser:"@@?"`
	Chain     *List      `parser:"| 'chain':Keyword @@"`
	Phase     *Phase     `parser:"| 'phase':Keyword @@ )"`

	// KindPos is where the word chain or phase stands. Only lang.Parse sets
	// it, and in a Part there may be nothing behind that word.
	KindPos token.Pos
}

// A ProcExec is the command of a filter with a process of its own.
type ProcExec struct {
	Command Str           `parser:"'proc-exec':Keyword @@"`
	Options []*ProcOption `parser:"@@*"`
}

// A Milter is where a filter that is a milter listens.
type Milter struct {
	Pos     token.Pos
	Address Str `parser:"'milter':Word @@"`
}

// An OnFailure says what a filter that cannot be asked does.
type OnFailure struct {
	Pos    token.Pos
	Bypass bool `parser:"'on-failure':Word @'bypass':Keyword"`
	EndPos token.Pos
}

// A Phase is a built-in filter: one condition and one decision. The grammar
// takes every condition and decision in every phase; which ones a phase
// allows is checked after parsing.
type Phase struct {
	Pos       token.Pos
	Name      string     `parser:"@( 'connect':Keyword | 'helo':Keyword | 'ehlo':Keyword | 'auth':Keyword | 'mail-from':Keyword | 'rcpt-to':Keyword | 'data':Keyword | 'commit':Keyword ) 'match':Keyword"`
	Not       bool       `parser:"@'!':Punct?"`
	Condition *Condition `parser:"@@"`
	Decision  *Decision  `parser:"@@"`
	EndPos    token.Pos
}

// A Condition is what a built-in filter tests.
type Condition struct {
	Pos      token.Pos
	FCrDNS   bool        `parser:"  @'fcrdns':Keyword"`
	RDNS     *OptPattern `parser:"| 'rdns':Keyword @@"`
	Src      *Pattern    `parser:"| 'src':Keyword @@"`
	Helo     *Pattern    `parser:"| 'helo':Keyword @@"`
	Auth     *OptPattern `parser:"| 'auth':Keyword @@"`
	MailFrom *Pattern    `parser:"| 'mail-from':Keyword @@"`
	RcptTo   *Pattern    `parser:"| 'rcpt-to':Keyword @@"`
	EndPos   token.Pos
}

// A Pattern is a table, of expressions if Regex.
type Pattern struct {
	Regex bool      `parser:"@'regex':Keyword?"`
	Table *TableArg `parser:"@@"`
}

// An OptPattern is a pattern that may be absent: Table is nil then.
type OptPattern struct {
	Regex      bool      `parser:"( @'regex':Keyword"`
	RegexTable *TableArg `parser:"  @@"`
	Table      *TableArg `parser:"| @@ )?"`
}

// Arg returns the table, plain or of expressions, or nil.
func (p *OptPattern) Arg() *TableArg {
	if p.Regex {
		return p.RegexTable
	}
	return p.Table
}

// A Decision is what a built-in filter does.
type Decision struct {
	Pos        token.Pos
	Reject     *Str `parser:"  'reject':Keyword @@"`
	Disconnect *Str `parser:"| 'disconnect':Keyword @@"`
	Rewrite    *Str `parser:"| 'rewrite':Keyword @@"`
	Report     *Str `parser:"| 'report':Keyword @@"`
	Junk       bool `parser:"| @'junk':Keyword"`
	Bypass     bool `parser:"| @'bypass':Keyword"`
	EndPos     token.Pos
}

// A Table declares a table.
type Table struct {
	Name Str   `parser:"'table':Keyword @@"`
	Spec *Str  `parser:"( @@"`
	List *List `parser:"| @@ )"`
}

// A FilterRef names a filter, or makes a chain on the spot.
type FilterRef struct {
	Name  *Str  `parser:"  @@"`
	Chain *List `parser:"| @@"`
}

// A Listen declares a listener.
type Listen struct {
	Socket        bool            `parser:"'listen':Keyword ( 'on':Keyword ( @'socket':Keyword"`
	SocketOptions []*SocketOption `parser:"@@*"`
	On            *Str            `parser:"| @@"`
	Options       []*ListenOption `parser:"@@* )"`
	Metrics       *Metrics        `parser:"| @@ )"`
}

// A Metrics says where the numbers of the service can be read.
type Metrics struct {
	Pos  token.Pos
	On   Str `parser:"'metrics':Word 'on':Keyword @@"`
	Port Num `parser:"'port':Keyword @@"`
}

// A SocketOption is an option of the local submission socket.
type SocketOption struct {
	Pos     token.Pos
	Filter  *FilterRef `parser:"  'filter':Keyword @@"`
	MaskSrc bool       `parser:"| @'mask-src':Keyword"`
	NoDSN   bool       `parser:"| @'no-dsn':Keyword"`
	Tag     *Str       `parser:"| 'tag':Keyword @@"`
	EndPos  token.Pos
}

// A ListenOption is an option of a network listener.
type ListenOption struct {
	Pos          token.Pos
	Filter       *FilterRef `parser:"  'filter':Keyword @@"`
	MaskSrc      bool       `parser:"| @'mask-src':Keyword"`
	NoDSN        bool       `parser:"| @'no-dsn':Keyword"`
	Tag          *Str       `parser:"| 'tag':Keyword @@"`
	Inet4        bool       `parser:"| @'inet4':Keyword"`
	Inet6        bool       `parser:"| @'inet6':Keyword"`
	Port         *Port      `parser:"| 'port':Keyword @@"`
	SMTPS        *Verify    `parser:"| 'smtps':Keyword @@"`
	TLS          bool       `parser:"| @'tls':Keyword"`
	TLSRequire   *Verify    `parser:"| 'tls-require':Keyword @@"`
	Ciphers      *Str       `parser:"| 'ciphers':Keyword @@"`
	Protocols    *Str       `parser:"| 'protocols':Keyword @@"`
	PKI          *Str       `parser:"| 'pki':Keyword @@"`
	CA           *Str       `parser:"| 'ca':Keyword @@"`
	Auth         *OptTable  `parser:"| 'auth':Keyword @@"`
	AuthOptional *OptTable  `parser:"| 'auth-optional':Keyword @@"`
	Hostname     *Str       `parser:"| 'hostname':Keyword @@"`
	Hostnames    *TableArg  `parser:"| 'hostnames':Keyword @@"`
	ReceivedAuth bool       `parser:"| @'received-auth':Keyword"`
	ProxyV2      *ProxyV2   `parser:"| 'proxy-v2':Keyword @@"`
	Senders      *Senders   `parser:"| 'senders':Keyword @@"`
	EndPos       token.Pos
}

// A Port is a number or the name of a service.
type Port struct {
	Num     *Num   `parser:"  @@"`
	Name    *Str   `parser:"| @@"`
	Keyword string `parser:"| @( 'smtp':Keyword | 'smtps':Keyword )"`
}

// A ProxyV2 says whose word is taken for who the client is.
type ProxyV2 struct {
	Pos  token.Pos
	From *TableArg `parser:"( 'only-from':Word @@ )?"`
}

// A Verify says whether a client certificate is demanded.
type Verify struct {
	Verify bool `parser:"@'verify':Keyword?"`
}

// An OptTable is a table that may be absent.
type OptTable struct {
	Table *TableArg `parser:"@@?"`
}

// Senders restricts who may send as whom.
type Senders struct {
	Table      *TableArg `parser:"@@"`
	Masquerade bool      `parser:"@'masquerade':Keyword?"`
}

// An Action declares what is done with mail.
type Action struct {
	Name  Str    `parser:"'action':Keyword @@"`
	Local *Local `parser:"( @@"`
	Relay *Relay `parser:"| @@ )"`
	TTL   []*Str `parser:"( 'ttl':Keyword @@ )*"`
}

// A Local is a way to deliver on this host; exactly one of its methods is
// set.
type Local struct {
	Pos         token.Pos
	MBox        bool           `parser:"( @'mbox':Keyword"`
	Maildir     *Maildir       `parser:"| @@"`
	LMTP        *LMTP          `parser:"| @@"`
	MDA         *Str           `parser:"| 'mda':Keyword @@"`
	ForwardOnly bool           `parser:"| @'forward-only':Keyword"`
	ExpandOnly  bool           `parser:"| @'expand-only':Keyword )"`
	Options     []*LocalOption `parser:"@@*"`
}

// A Maildir is a maildir, in the user's home if Path is absent.
type Maildir struct {
	Path *Str `parser:"'maildir':Keyword @@?"`
	Junk bool `parser:"@'junk':Keyword?"`
}

// An LMTP is a destination that speaks LMTP.
type LMTP struct {
	Dest   Str  `parser:"'lmtp':Keyword @@"`
	RcptTo bool `parser:"@'rcpt-to':Keyword?"`
}

// A LocalOption is an option of a local action.
type LocalOption struct {
	Pos      token.Pos
	User     *Str      `parser:"  'user':Keyword @@"`
	Alias    *TableArg `parser:"| 'alias':Keyword @@"`
	Virtual  *TableArg `parser:"| 'virtual':Keyword @@"`
	Userbase *TableArg `parser:"| 'userbase':Keyword @@"`
	Wrapper  *Str      `parser:"| 'wrapper':Keyword @@"`
	EndPos   token.Pos
}

// A Relay sends mail on.
type Relay struct {
	Options []*RelayOption `parser:"'relay':Keyword @@*"`
}

// A RelayOption is an option of a relay action.
type RelayOption struct {
	Pos       token.Pos
	Helo      *Str       `parser:"  'helo':Keyword @@"`
	HeloSrc   *TableArg  `parser:"| 'helo-src':Keyword @@"`
	PKI       *Str       `parser:"| 'pki':Keyword @@"`
	CA        *Str       `parser:"| 'ca':Keyword @@"`
	Ciphers   *Str       `parser:"| 'ciphers':Keyword @@"`
	Protocols *Str       `parser:"| 'protocols':Keyword @@"`
	Src       *TableArg  `parser:"| 'src':Keyword @@"`
	MailFrom  *Str       `parser:"| 'mail-from':Keyword @@"`
	Backup    *Backup    `parser:"| 'backup':Keyword @@"`
	Host      *TableArg  `parser:"| 'host':Keyword @@"`
	Domain    *TableArg  `parser:"| 'domain':Keyword @@"`
	TLS       *RelayTLS  `parser:"| 'tls':Keyword @@"`
	Auth      *TableArg  `parser:"| 'auth':Keyword @@"`
	Filter    *FilterRef `parser:"| 'filter':Keyword @@"`
	SRS       bool       `parser:"| @'srs':Keyword"`
	EndPos    token.Pos
}

// A Backup relays only to better exchangers than this host.
type Backup struct {
	MX *Str `parser:"( 'mx':Keyword @@ )?"`
}

// A RelayTLS demands TLS.
type RelayTLS struct {
	NoVerify bool `parser:"@'no-verify':Keyword?"`
}

// A Match is one rule.
type Match struct {
	Criteria []*Criterion `parser:"'match':Keyword @@*"`
	Action   *Str         `parser:"( 'action':Keyword @@"`
	Reject   bool         `parser:"| @'reject':Keyword )"`
}

// A Criterion is one test of a rule.
type Criterion struct {
	Pos      token.Pos
	Not      bool        `parser:"@'!':Punct?"`
	Tag      *Pattern    `parser:"(  'tag':Keyword @@"`
	Helo     *Pattern    `parser:"| 'helo':Keyword @@"`
	TLS      bool        `parser:"| @'tls':Keyword"`
	Auth     *OptPattern `parser:"| 'auth':Keyword @@"`
	MailFrom *Pattern    `parser:"| 'mail-from':Keyword @@"`
	RcptTo   *Pattern    `parser:"| 'rcpt-to':Keyword @@"`
	From     *From       `parser:"| 'from':Keyword @@"`
	For      *For        `parser:"| 'for':Keyword @@ )"`
	EndPos   token.Pos
}

// A From says where mail comes from.
type From struct {
	Any      bool        `parser:"  @'any':Keyword"`
	Local    bool        `parser:"| @'local':Keyword"`
	Socket   bool        `parser:"| @'socket':Keyword"`
	Src      *Pattern    `parser:"| 'src':Keyword @@"`
	RDNS     *OptPattern `parser:"| 'rdns':Keyword @@"`
	Auth     *OptPattern `parser:"| 'auth':Keyword @@"`
	MailFrom *Pattern    `parser:"| 'mail-from':Keyword @@"`
}

// A For says where mail goes.
type For struct {
	Any    bool     `parser:"  @'any':Keyword"`
	Local  bool     `parser:"| @'local':Keyword"`
	Domain *Pattern `parser:"| 'domain':Keyword @@"`
	RcptTo *Pattern `parser:"| 'rcpt-to':Keyword @@"`
}
