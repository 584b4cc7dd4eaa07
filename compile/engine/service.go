package engine

// serviceNames are the words of the table protocol.
var serviceNames = map[Service]string{
	Alias: "alias", Domain: "domain", Credentials: "credentials", NetAddr: "netaddr", UserInfo: "userinfo",
	Source: "source", MailAddr: "mailaddr", AddrName: "addrname", MailAddrMap: "mailaddrmap",
	RelayHost: "relayhost", String: "string", Regex: "regex", Auth: "auth",
}

// String returns the name of a service, as the protocol of tables has it.
func (s Service) String() string { return serviceNames[s] }

// ParseService returns the service of a name.
func ParseService(name string) (Service, bool) {
	for s, n := range serviceNames {
		if n == name {
			return s, true
		}
	}
	return 0, false
}
