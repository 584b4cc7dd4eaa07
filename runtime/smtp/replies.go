package smtp

import (
	"strings"

	"smtpd/compile/expand"
)

// The replies of the server. Where OpenSMTPD has a text it is OpenSMTPD's,
// word for word: clients, log parsers and tests of administrators know it. The
// enhanced codes that some of them lack are added: who offers them puts one
// into every reply (RFC 2034, section 4). The words of administrators and
// programs, of filters and aliases, go out as they are.
const (
	replyReady         = "220 2.0.0 Ready to start TLS"
	replyBye           = "221 2.0.0 Bye"
	replyOK            = "250 2.0.0 Ok"
	replyReset         = "250 2.0.0 Reset state"
	replyOctets        = "250 2.0.0 %d octets received"
	replyVerify        = "252 2.5.0 Cannot verify here; RCPT tells"
	replyRecipient     = expand.ReplyAccepted
	replyData          = "354 Enter mail, end with \".\" on a line by itself"
	replyAuthenticated = "235 2.0.0 Authentication succeeded"

	replyTemporary     = "421 4.3.0 Temporary Error"
	replyFailure       = "421 4.3.0 Temporary failure"
	replyShutdown      = "421 4.3.2 Service shutting down"
	replyTooManyConns  = "421 4.7.0 Too many connections from your network"
	replyTooLong       = "421 4.4.2 Too long without a message"
	replyEarly         = "421 4.5.1 Client talks before the greeting"
	replyTooManyErrors = "421 4.7.0 Too many errors"
	replyTooManyAuth   = "421 4.7.0 Too many failed authentications"

	replyTooManyRcpts = "451 4.5.3 Too many recipients: Too many recipients"
	replyInvalid      = "550 5.1.1 Invalid recipient" // for expand.ReplyInvalid
	replyUnresolved   = "451 4.3.0 Temporary failure"
	replyFilter       = "451 4.3.0 Temporary failure"
	replyFull         = "452 4.3.1 Insufficient system storage"
	replyTooManyMails = "452 4.5.3 Too many recipients: Too many messages sent"

	replyChunk          = "501 5.5.4 Invalid command arguments: BDAT requires a size"
	replyLineTooLong    = "500 5.0.0 Line too long"
	replyCommandTooLong = "500 5.0.0 Command line too long"
	replyCommandLineEnd = "500 5.5.2 Syntax error: a command ends with CRLF"
	replyUnrecognized   = "500 5.5.1 Invalid command: Command unrecognized"
	replyPipelining     = "500 5.5.1 Invalid command: Pipelining not supported"
	replyWizard         = "500 5.5.1 Invalid command: this feature is not supported yet ;-)"
	replyArguments      = "500 5.5.4 Invalid command arguments: command does not accept arguments."
	replyLoop           = "500 5.4.6 Routing loop detected: Loop detected"

	replyNeedsDomain    = "501 5.5.1 Invalid command: %s requires domain name"
	replyBadDomain      = "501 5.5.4 Invalid command arguments: Invalid domain name"
	replyNoParameters   = "501 5.5.4 Invalid command arguments: No parameters allowed"
	replyNoMechanism    = "501 5.5.4 Invalid command arguments: No parameters given"
	replyBadParameters  = "501 5.5.4 Invalid command arguments: Syntax error in parameters"
	replyBadOption      = "501 5.5.4 Invalid command arguments: bad value of %s"
	replyRcptSyntax     = "501 5.1.3 Recipient address syntax error"
	replySyntax         = "501 5.5.2 Syntax error: Syntax error"
	replyNotAllowed     = "503 5.5.1 Invalid command: Command not allowed at this point."
	replyNotSupported   = "503 5.5.1 Invalid command: Command not supported"
	replySecured        = "503 5.5.1 Invalid command: Channel already secured"
	replyAuthAlready    = "503 5.5.1 Invalid command: Already authenticated"
	replyMailOption     = "503 5.5.4 Invalid command arguments: Unsupported option %s"
	replyOptionTooLarge = "503 5.5.4 Invalid command arguments: option too large, truncated: %s"
	replyRcptOption     = "503 5.5.4 Unsupported option %s"
	replyNoRecipient    = "503 5.5.4 Invalid command arguments: No recipient specified"
	replyBadMechanism   = "504 5.7.4 Security features not supported: AUTH method \"%s\" not supported"

	replyNeedsTLS    = "530 5.5.1 Invalid command: Must issue a STARTTLS command first"
	replyNeedsAuth   = "530 5.5.1 Invalid command: Must issue an AUTH command first"
	replySender      = "530 5.7.1 Sender rejected"
	replyCredentials = "535 5.7.8 Authentication failed"

	replyMalformed    = "550 5.7.1 Delivery not authorized, message refused: Message is not RFC 2822 compliant"
	replyDeclaredSize = "552 5.3.4 Message too big for system: declared size exceeds the limit"
	replyNeedsUTF8    = "553 5.6.7 Address is not ASCII: SMTPUTF8 is required"
	replySenderSyntax = "553 5.1.0 Sender address syntax error"
	replyNotify       = "553 5.5.4 NOTIFY option NEVER cannot be combined with other options"
	replyORcpt        = "553 5.5.4 ORCPT address syntax error"
	replyTooBig       = "554 5.3.4 Message too big for system: Transaction failed, message too big"
	replyLineEnd      = "554 5.6.0 Message refused: bare CR or LF in it, lines end with CRLF"
)

var replyHelp = [...]string{
	"214-2.0.0 This is OpenSMTPD",
	"214-2.0.0 To report bugs in the implementation, please contact bugs@openbsd.org",
	"214-2.0.0 with full details",
	"214 2.0.0 End of HELP info",
}

// maxReply is the longest line of a reply without its CRLF (RFC 5321, section
// 4.5.3.1.5).
const maxReply = 510

// printable returns line with every byte replaced that no client can be
// expected to take, and cut where it is too long.
func printable(line string) string {
	line = line[:min(len(line), maxReply)]
	if strings.IndexFunc(line, unprintable) < 0 {
		return line
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '?'
		}
		return r
	}, line)
}

func unprintable(r rune) bool { return r < ' ' && r != '\t' || r > '~' }
