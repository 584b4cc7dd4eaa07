package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// A store is a Source that is asked by commands of Redis. They are split into
// words before the key takes its place, so it is always within one.
type store struct {
	servers  []*redis.Client // the master, and its slave if there is one
	commands map[engine.Service][]string
}

// silence keeps the library from writing to the log what it returns as an
// error.
var silence sync.Once

func newRedis(_ string, f *tableconf.File) (backend.Source, error) {
	silence.Do(logging.Disable)
	r := &store{commands: make(map[engine.Service][]string)}
	for _, name := range tableconf.Services {
		// A table that judges passwords itself is not asked for hashes: only one
		// that says so does.
		if s, _ := engine.ParseService(name); s != engine.Auth {
			r.commands[s] = strings.Fields("GET " + name + ":%s")
		}
	}
	for s, text := range perService(f, func(s string) string { return "query_" + s }) {
		r.commands[s] = strings.Fields(text)
	}
	r.servers = append(r.servers, redisClient(f, "master", "127.0.0.1", 6379))
	if f.Value("slave") != "" {
		r.servers = append(r.servers, redisClient(f, "slave", "", 6380))
	}
	return r, nil
}

func redisClient(f *tableconf.File, name, host string, port int) *redis.Client {
	l := backend.LimitsOf(f)
	if f.Value(name) != "" {
		host = f.Value(name)
	}
	o := &redis.Options{
		Network: "tcp", Addr: net.JoinHostPort(host, strconv.Itoa(f.Number(name+"_port", port))),
		Password: f.Value("password"), DB: f.Number("database", 0), Protocol: 2, DisableIdentity: true,
		MaxRetries: 1, DialTimeout: l.Timeout, ReadTimeout: l.Timeout, WriteTimeout: l.Timeout, ContextTimeoutEnabled: true,
		DialerRetries: 1, PoolSize: l.Connections, ConnMaxIdleTime: idleTime, ConnMaxLifetime: lifeTime,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if path, ok := strings.CutPrefix(host, "unix:"); ok {
		o.Network, o.Addr = "unix", path
	}
	return redis.NewClient(o)
}

// do asks the master, and its slave if the master cannot be asked.
func (r *store) do(ctx context.Context, s engine.Service, key string) (reply any, err error) {
	var args []any
	for _, word := range r.commands[s] {
		text, err := tableconf.Expand(word, func(byte) (string, bool) { return key, true })
		if err != nil {
			return nil, err
		}
		args = append(args, text)
	}
	if len(args) == 0 {
		return nil, backend.ErrService
	}
	for _, c := range r.servers {
		reply, err = c.Do(ctx, args...).Result()
		said := redis.Error(nil)
		if err == nil || ctx.Err() != nil || errors.As(err, &said) { // it answered
			break
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return reply, err
}

// Check counts a number above 0, a text and a list with something in it as
// found: what GET, SISMEMBER, EXISTS and LRANGE say.
func (r *store) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	reply, err := r.do(ctx, s, key)
	if n, ok := reply.(int64); ok && err == nil {
		if n < 0 {
			return false, fmt.Errorf("the command says %d", n)
		}
		return n > 0, nil
	}
	list, err := texts(reply, err)
	return len(list) > 0 && err == nil, err
}

func (r *store) Lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	reply, err := r.do(ctx, s, key)
	list, err := texts(reply, err)
	if err != nil || len(list) == 0 {
		return "", false, err
	}
	if _, one := reply.(string); one { // the value as a whole, whatever the service
		return join(engine.String, [][]string{list})
	}
	if isList(s) {
		rows := make([][]string, 0, len(list))
		for _, text := range list {
			rows = append(rows, []string{text})
		}
		return join(s, rows)
	}
	if len(list) != columns(s) {
		return "", false, fmt.Errorf("the command returns %d values, and %d are needed", len(list), columns(s))
	}
	return join(s, [][]string{list})
}

// texts returns the texts of a reply: none if there is nothing. HMGET says nil
// for each field of what is not there; nil for some of them is a mistake.
func texts(reply any, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	switch reply := reply.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{reply}, nil
	case []any:
		var list []string
		for _, e := range reply {
			if text, ok := e.(string); ok {
				list = append(list, text)
			} else if e != nil {
				return nil, fmt.Errorf("the command returns a list with %T", e)
			}
		}
		if len(list) > 0 && len(list) < len(reply) {
			return nil, errNull
		}
		return list, nil
	}
	return nil, fmt.Errorf("the command returns %T", reply)
}

func (r *store) Update(ctx context.Context) (err error) {
	for _, c := range r.servers {
		if err = c.Ping(ctx).Err(); err == nil {
			return nil
		}
	}
	return err
}

func (r *store) Close() {
	for _, c := range r.servers {
		c.Close()
	}
}
