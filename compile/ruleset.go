package compile

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"smtpd/compile/tablefile"
)

// A Ruleset is a compiled configuration: every name resolved, every default
// made explicit. It is immutable once Compile has returned it; the runtime
// and the engines share it.
type Ruleset struct {
	ServerName string // of this host, unless a listener says otherwise
	ADMD       string

	Tables    []Table  // TableID n is Tables[n-1]
	Actions   []Action // ActionID n is Actions[n-1]
	Rules     []Rule   // in file order
	Filters   []Filter // FilterID n is Filters[n-1]
	Procs     []Proc
	Wrappers  []Wrapper
	PKI       []PKI
	CA        []CA
	Listeners []Listener // network listeners
	Socket    Socket     // the local submission socket, always there
	Metrics   []MetricsListener

	Local      TableID // <localhost>: the word local and every address of this host
	LocalNames TableID // <localnames>: localhost, the server name, the text of addresses
	AnyHost    TableID // <anyhost>
	AnyDest    TableID // <anydestination>

	SMTP      SMTP
	Queue     Queue
	SRS       SRS
	MDA       MDALimits
	Scheduler SchedulerLimits
	MTA       MTA
	Bounce    []time.Duration // ages at which a delay is reported, as written
}

// Ids of what a Ruleset holds; 0 is none.
type (
	TableID  uint32
	ActionID uint32
	FilterID uint32
)

// Table returns the table id names, which must not be 0.
func (rs *Ruleset) Table(id TableID) *Table { return &rs.Tables[id-1] }

// Action returns the action id names, which must not be 0.
func (rs *Ruleset) Action(id ActionID) *Action { return &rs.Actions[id-1] }

// Filter returns the filter id names, which must not be 0.
func (rs *Ruleset) Filter(id FilterID) *Filter { return &rs.Filters[id-1] }

// An Origin is where a part of the Ruleset was written. Line is 0 for what
// nobody wrote, such as built-in tables.
type Origin struct {
	File         string
	Line, Column int
}

// A Kind is what a table holds.
type Kind uint8

// The kinds of tables.
const (
	List    Kind = iota + 1 // keys
	Mapping                 // keys and values
	Dynamic                 // not known before it is asked
	Empty                   // declared without content: it fits nowhere
)

// A Table is a source of answers.
type Table struct {
	Name    string // "<dynamic:0>" for an anonymous one
	Kind    Kind
	Backend string  // "static", "db", "getpwnam", another that is built in, or the name of a helper
	Path    string  // the file of a static table, or the helper's argument; "" for inline
	Config  string  // the content of the file by which a backend that is built in is configured; may hold a password
	Entries []Entry // of a static table: keys folded to lower case, ascending, unique
	Origin  Origin
}

// An Entry is a key and, in a mapping, its value.
type Entry = tablefile.Entry

// A Sign says whether a criterion is there and which way it points.
type Sign uint8

// The signs. Absent is the zero value: it decides nothing.
const (
	Absent Sign = iota
	Is
	Not
)

// A Criterion is one test of a rule or filter. Table is 0 where the language
// lets it be absent (bare auth, bare rdns) and for tests without one.
type Criterion struct {
	Sign  Sign
	Table TableID
	Regex bool
}

// A FromKind says what from tests.
type FromKind uint8

// The kinds of from. "from auth" and "from mail-from" compile to FromAny and
// a criterion of that name.
const (
	FromLocal FromKind = iota + 1 // Table is Ruleset.Local
	FromAny                       // Table is Ruleset.AnyHost
	FromSocket
	FromSrc
	FromRDNS // Table 0: that a reverse name exists
)

// A ForKind says what for tests.
type ForKind uint8

// The kinds of for. "for rcpt-to" compiles to ForAny and a criterion.
const (
	ForLocal ForKind = iota + 1 // Table is Ruleset.LocalNames
	ForAny                      // Table is Ruleset.AnyDest
	ForDomain
)

// From is the from part of a rule, always there.
type From struct {
	Kind FromKind
	Criterion
}

// For is the for part of a rule, always there.
type For struct {
	Kind ForKind
	Criterion
}

// A Rule is one match statement. The order of evaluation is that of the
// fields. Action 0 is reject.
type Rule struct {
	Tag      Criterion
	From     From
	For      For
	Helo     Criterion
	Auth     Criterion
	TLS      Criterion // Table is always 0
	MailFrom Criterion
	RcptTo   Criterion
	Action   ActionID
	Origin   Origin
}

// A Method is how an action delivers.
type Method uint8

// The methods.
const (
	MBox Method = iota + 1
	Maildir
	LMTP
	MDA
	ForwardOnly
	ExpandOnly
	Relay
)

var methodNames = [...]string{"", "mbox", "maildir", "lmtp", "mda", "forward-only", "expand-only", "relay"}

// String returns the keyword of m.
func (m Method) String() string { return methodNames[m] }

// An Action says what is done with mail that a rule accepts. Envelopes name
// it, so that queued mail follows the definition that is in force.
type Action struct {
	Name   string
	Method Method
	TTL    time.Duration // queue lifetime, never 0
	Origin Origin

	// Local methods.
	Argument string // maildir path ("" is ~/Maildir), lmtp destination, or mda command
	Junk     bool   // maildir junk
	RcptTo   bool   // lmtp rcpt-to
	User     string // user
	Alias    TableID
	Virtual  TableID
	Userbase TableID // 0: system users
	Wrapper  string  // name in Wrappers

	// Relay.
	Relay RelayOptions
}

// RelayOptions are the options of a relay action.
type RelayOptions struct {
	Helo      string
	HeloSrc   TableID
	PKI, CA   string
	Ciphers   string
	Protocols string
	Src       TableID
	MailFrom  string
	Backup    bool
	BackupMX  string // "" is the receiving listener's name
	Host      TableID
	Domain    TableID
	TLS       bool
	NoVerify  bool
	Auth      TableID
	Filter    FilterID
	SRS       bool
}

// A Wrapper is a named command around delivery commands.
type Wrapper struct {
	Name, Command string
}

// A PKI is a named certificate. Name is in lower case.
type PKI struct {
	Name      string
	Cert, Key string // paths
	DHE       string // "", "none", "auto", "legacy"
	Origin    Origin
}

// A CA is a named authority file. Name is in lower case.
type CA struct {
	Name, Cert string
	Origin     Origin
}

// A TLSMode says how a listener uses TLS.
type TLSMode uint8

// The TLS modes.
const (
	NoTLS TLSMode = iota
	StartTLS
	RequireTLS // STARTTLS, and MAIL refused before it
	SMTPS      // from the first byte
)

// An AuthMode says whether a listener offers AUTH.
type AuthMode uint8

// The auth modes.
const (
	NoAuth AuthMode = iota
	OptionalAuth
	RequireAuth // MAIL refused before it
)

// A Listener is one listening address. A statement that names an interface
// gives one Listener for each of its addresses.
type Listener struct {
	Addr         netip.Addr
	Port         uint16
	Interface    string // the name as written
	Tag          string
	TLS          TLSMode
	Verify       bool
	Auth         AuthMode
	AuthTable    TableID // 0: system accounts
	PKI          []string
	CA           string
	Ciphers      string
	Protocols    string
	Hostname     string // never empty
	Hostnames    TableID
	Senders      TableID
	Masquerade   bool
	Filter       FilterID
	MaskSrc      bool
	NoDSN        bool
	ReceivedAuth bool
	ProxyV2      bool
	ProxyFrom    TableID // sources whose PROXY header is believed; 0: all. Ours
	Origin       Origin
}

// A MetricsListener is an address on which the numbers of the service can be
// read.
type MetricsListener struct {
	Addr   netip.Addr
	Port   uint16
	Origin Origin
}

// A Socket is the local submission socket.
type Socket struct {
	Tag      string
	Hostname string
	Filter   FilterID
	MaskSrc  bool
	NoDSN    bool
	Origin   Origin
}

// A Proc is a filter process.
type Proc struct {
	Name, Command       string
	User, Group, Chroot string
	Origin              Origin
}

// A Filter is a built-in filter, a use of a process, a milter, or a chain.
// Exactly one of Proc, Milter, Chain and Phase is set.
type Filter struct {
	Name   string // "<dynamic:0>" for an anonymous chain
	Proc   string
	Milter MilterAddr
	Bypass bool // of a process or milter: pass mail while it cannot be asked
	Chain  []FilterID
	Phase  string // "connect", "helo", …: a built-in filter
	Test   FilterTest
	Do     Verdict
	Text   string // of Do
	Origin Origin
}

// A MilterAddr is where a milter listens: "unix:/path" or "inet:host:port".
type MilterAddr string

// Split returns the network and the address, as net.Dial takes them; ok is
// false if a is neither.
func (a MilterAddr) Split() (network, address string, ok bool) {
	kind, address, _ := strings.Cut(string(a), ":")
	switch kind {
	case "unix":
		return "unix", address, strings.HasPrefix(address, "/")
	case "inet":
		host, port, err := net.SplitHostPort(address)
		n, perr := strconv.ParseUint(port, 10, 16)
		return "tcp", address, err == nil && host != "" && perr == nil && n > 0
	}
	return "", "", false
}

// Process reports whether a filter speaks for itself: who has one in the chain
// of a listener tells it of sessions as they go on.
func (f *Filter) Process() bool { return f.Proc != "" || f.Milter != "" }

// A FilterField is what a built-in filter looks at.
type FilterField uint8

// The fields.
const (
	FieldFCrDNS FilterField = iota + 1
	FieldRDNS
	FieldSrc
	FieldHelo
	FieldAuth
	FieldMailFrom
	FieldRcptTo
)

// A FilterTest is the condition of a built-in filter.
type FilterTest struct {
	Field FilterField
	Criterion
}

// A Verdict is what a built-in filter does when its condition holds.
type Verdict uint8

// The verdicts.
const (
	Reject Verdict = iota + 1
	Disconnect
	Rewrite
	Report
	Junk
	Bypass
)

// SMTP holds what is the same for every listener.
type SMTP struct {
	MaxMails       int // per session
	MaxRcpt        int // per message
	MaxMessageSize int64
	SubAddrDelim   byte
	Ciphers        string

	// Ours. 0 is the default of the server.
	MaxConnPerSource int // sessions at once
	MaxErrors        int // of protocol, per session
	MaxCommands      int // between two messages, besides two for each recipient allowed
	MaxAuthFailures  int // per session
	MaxWithoutMail   int // seconds from one message to the next

	MaxAuthFailuresPerSource int // within ten minutes
	MaxSessions              int // at once
	MaxIdle                  int // seconds
	MinRate                  int // bytes a second of a command or message that takes longer than MaxIdle
	GreetingDelay            int // seconds in which early talkers give themselves away

	BareLFFrom TableID // sources whose lines may end in LF
}

// Queue says how mail is kept.
type Queue struct {
	TTL         time.Duration
	Compression bool
	Encryption  bool
	Key         string // 32 bytes; "" with Encryption: asked for at start; "stdin" or "-"
}

// SRS holds the keys of sender rewriting; Key "" is off.
type SRS struct {
	Key, Backup string
	TTL         time.Duration
}

// MDALimits limit local delivery.
type MDALimits struct {
	MaxSession, MaxSessionPerUser     int
	TaskHiwat, TaskLowat, TaskRelease int
}

// SchedulerLimits limit the scheduler.
type SchedulerLimits struct {
	MaxInflight, MaxEvpBatchSize, MaxMsgBatchSize, MaxSchedule int
}

// MTA holds the limits of remote delivery.
type MTA struct {
	MaxDeferred int
	Limits      MTALimits
	Domains     []DomainLimits // in order of first mention
}

// DomainLimits are the limits for one domain.
type DomainLimits struct {
	Domain string
	Limits MTALimits
}

// MTALimits limit connections; delays are in seconds, as written.
type MTALimits struct {
	MaxConnPerHost, MaxConnPerRoute, MaxConnPerSource      int
	MaxConnPerConnector, MaxConnPerRelay, MaxConnPerDomain int
	ConnDelayHost, ConnDelayRoute, ConnDelaySource         int
	ConnDelayConnector, ConnDelayRelay, ConnDelayDomain    int
	ReconnDelayRoute                                       int
	SessionMailMax, SessionTransactionDelay                int
	SessionKeepalive, MaxFailuresPerSession                int
	TaskHiwat, TaskLowat, TaskRelease                      int
	Family                                                 string // "", "inet4" or "inet6"
}
