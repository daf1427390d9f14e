// Package pgstore keeps idempotency records and tickets in PostgreSQL, for any number of gateways.
//
// A record is acknowledged when PostgreSQL has committed it, which is as durable as its
// synchronous_commit and its replication make it. After a failover to an asynchronous standby,
// records that were acknowledged may be missing, and with them the protection of their keys.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

const (
	// statementTimeout is a parameter of PostgreSQL. The server ends a statement after that time
	// even if the gateway is gone.
	statementTimeout = "statement_timeout"
	statementMillis  = "5000"
	connectTime      = 5 * time.Second
	// maxConns is the number of connections, if the URL does not say it (pool_max_conns).
	maxConns = 16
	// countTime is how long the number of records of a caller is remembered.
	countTime = time.Minute
	// purgeBatch is the maximum number of records that one Purge erases, and that it deletes.
	purgeBatch = 1000
)

// Store implements [idempotency.Store].
type Store struct {
	pool   *pgxpool.Pool
	counts counts

	// The database is checked on the first connection.
	mu       sync.Mutex
	checked  bool
	warnings []string
	warn     func(string) // may be nil
}

// DefaultLimits are those of a store in PostgreSQL.
func DefaultLimits() idempotency.Limits {
	return idempotency.Limits{PerCaller: 1_500_000, Total: 10_000_000}
}

// Open connects to the database of a URL, postgres://USER:PASSWORD@HOST:PORT/DATABASE. The
// parameters of libpq and pgxpool are supported, for example sslmode and pool_max_conns. Several
// hosts are separated by commas; the one that accepts writes is used. The tables must be there
// ([Migrate]). Errors do not have the password.
//
// The limits are exact for one gateway. Each further one can exceed them by what it claims in a
// minute.
func Open(ctx context.Context, url string, limits idempotency.Limits) (*Store, error) {
	s, err := newStore(ctx, url, limits, nil)
	if err != nil {
		return nil, err
	}
	if err := s.pool.Ping(ctx); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("idempotency store: %w", err)
	}
	return s, nil
}

// Start is Open for a database that may be unreachable now, for example because it is restarted at the
// same time. Until it can be reached, the methods return [idempotency.ErrUnavailable]. A database that
// refuses the gateway, or has no tables for it, is an error nevertheless if it can be reached now.
//
// warn is called for each of the [Store.Warnings] once they are known, and if the database cannot be
// reached.
func Start(ctx context.Context, url string, limits idempotency.Limits, warn func(string)) (*Store, error) {
	s, err := newStore(ctx, url, limits, warn)
	if err != nil {
		return nil, err
	}
	err = s.pool.Ping(ctx)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() == nil && unreachable(err):
		warn("the database of idempotency keys cannot be reached, and the gateway is not ready until it can be: " + err.Error())
		return s, nil
	}
	s.pool.Close()
	return nil, fmt.Errorf("idempotency store: %w", err)
}

func newStore(ctx context.Context, url string, limits idempotency.Limits, warn func(string)) (*Store, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	s := &Store{counts: counts{limits: limits}, warn: warn}
	config.AfterConnect = s.check
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("idempotency store: %w", err)
	}
	return s, nil
}

// errUnusable is a database that this gateway cannot use as it is.
var errUnusable = errors.New("the database cannot be used")

// unreachable reports whether an error of the first connection can go away by itself: the server does
// not answer, is starting or shutting down, or has too many connections (classes 08, 53 and 57 of
// PostgreSQL's codes).
func unreachable(err error) bool {
	if errors.Is(err, errUnusable) {
		return false
	}
	failure, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch failure.Code[:min(2, len(failure.Code))] {
	case "08", "53", "57":
		return true
	default:
		return false
	}
}

// Check returns an error if a URL cannot be read. It does not connect.
func Check(url string) error {
	_, err := parse(url)
	return err
}

// parse returns the configuration for a URL.
func parse(text string) (*pgxpool.Config, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.User == nil && strings.Contains(text, "@") {
		// The error could contain a part of the password.
		return nil, errors.New("idempotency store: the URL cannot be read; write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %XX for special characters of the password")
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("idempotency store: %w", err) // pgx hides the password
	}
	conn := config.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTime
	}
	for name, value := range map[string]string{"application_name": "mesh-gateway", statementTimeout: statementMillis} {
		if _, given := conn.RuntimeParams[name]; !given {
			conn.RuntimeParams[name] = value
		}
	}
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // never a standby
	}
	if !parsed.Query().Has("pool_max_conns") {
		config.MaxConns = maxConns
	}
	return config, nil
}

// check checks the database on the first connection. A connection that fails the check is closed.
func (s *Store) check(ctx context.Context, conn *pgx.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked {
		return nil
	}
	if err := checkSchema(ctx, conn); err != nil {
		return err
	}
	var commit, fsync string
	err := conn.QueryRow(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&commit, &fsync)
	if err != nil {
		return err
	}
	if commit == "off" || commit == "local" {
		s.warnings = append(s.warnings, "synchronous_commit of PostgreSQL is "+commit+", so records that were acknowledged can be lost in a crash or a failover, and a repeated write be sent twice")
	}
	if fsync == "off" {
		s.warnings = append(s.warnings, "fsync of PostgreSQL is off, so records that were acknowledged can be lost in a crash, and a repeated write be sent twice")
	}
	s.checked = true
	if s.warn != nil {
		for _, warning := range s.warnings {
			s.warn(warning)
		}
	}
	return nil
}

// Warnings returns what is wrong with the database without making it unusable, as far as it is known.
func (s *Store) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warnings
}

// columns are those of a record, in the order of scan.
const columns = `id, version, caller, group_name, method, key, fingerprint, token, state, created, deadline, finished, sealed, now()`

func scan(row pgx.Row) (r idempotency.Record, now time.Time, err error) {
	var id, caller, fingerprint, token []byte
	var finished *time.Time
	err = row.Scan(&id, &r.Version, &caller, &r.Group, &r.Method, &r.Key, &fingerprint, &token, &r.State, &r.Created, &r.Deadline, &finished, &r.Sealed, &now)
	if err != nil {
		return r, now, err
	}
	if copy(r.ID[:], id) != len(r.ID) || copy(r.Caller[:], caller) != len(r.Caller) || copy(r.Token[:], token) != len(r.Token) {
		return r, now, errors.New("a record has an id, a caller or a token of the wrong size")
	}
	r.Fingerprint = fingerprint
	if finished != nil {
		r.Finished = *finished
	}
	return r, now, nil
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, record idempotency.Record, timeout time.Duration) (idempotency.Claim, error) {
	full := s.counts.check(ctx, s, record.Caller)
	// A record can be deleted between the two statements. Then they are tried again.
	for range 3 {
		if full == nil {
			tag, err := s.pool.Exec(ctx, `
				INSERT INTO mesh_gateway_records (id, version, caller, group_name, method, key, fingerprint, token, state, created, deadline)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now() + $10 * interval '1 microsecond')
				ON CONFLICT (id) DO NOTHING`,
				record.ID[:], record.Version, record.Caller[:], record.Group, record.Method, record.Key, []byte(record.Fingerprint), record.Token[:],
				idempotency.Sent, timeout.Microseconds())
			if err != nil {
				return idempotency.Claim{}, unavailable(err)
			}
			if tag.RowsAffected() == 1 {
				s.counts.add(record.Caller, 1)
				return idempotency.Claim{}, nil
			}
		}
		existing, now, err := scan(s.pool.QueryRow(ctx, `SELECT `+columns+` FROM mesh_gateway_records WHERE id = $1`, record.ID[:]))
		switch {
		case errors.Is(err, pgx.ErrNoRows) && full != nil:
			return idempotency.Claim{}, full
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return idempotency.Claim{}, unavailable(err)
		case existing.Token == record.Token:
			return idempotency.Claim{}, nil
		}
		return idempotency.Claim{Existing: &existing, Now: now}, nil
	}
	return idempotency.Claim{}, unavailable(errors.New("the record of the key is claimed and released again and again"))
}

// Finish implements [idempotency.Store].
func (s *Store) Finish(ctx context.Context, id idempotency.ID, token idempotency.Token, state idempotency.State, sealed []byte) error {
	tag, err := s.pool.Exec(ctx, `UPDATE mesh_gateway_records SET state = $3, sealed = $4, finished = now() WHERE id = $1 AND token = $2 AND state = 'sent'`,
		id[:], token[:], state, sealed)
	if err != nil || tag.RowsAffected() == 1 {
		return unavailable(err)
	}
	var present idempotency.State
	err = s.pool.QueryRow(ctx, `SELECT state FROM mesh_gateway_records WHERE id = $1 AND token = $2`, id[:], token[:]).Scan(&present)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && present != state {
		return idempotency.ErrNotClaimed
	}
	return unavailable(err)
}

// Release implements [idempotency.Store].
func (s *Store) Release(ctx context.Context, id idempotency.ID, token idempotency.Token) error {
	var caller []byte
	err := s.pool.QueryRow(ctx, `DELETE FROM mesh_gateway_records WHERE id = $1 AND token = $2 AND state = 'sent' RETURNING caller`, id[:], token[:]).Scan(&caller)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil && len(caller) == len(idempotency.Caller{}) {
		s.counts.add(idempotency.Caller(caller), -1)
	}
	return unavailable(err)
}

// List implements [idempotency.Store]. It reads the records one by one.
func (s *Store) List(ctx context.Context, filter idempotency.Filter, yield func(idempotency.Record, time.Time) error) error {
	rows, err := s.pool.Query(ctx, `
		SELECT `+columns+` FROM mesh_gateway_records
		WHERE (state = 'sent' OR NOT $1) AND ($2 = '' OR key = $2 OR encode(id, 'hex') = $2)
		ORDER BY created`, filter.Sent, filter.Key)
	if err != nil {
		return unavailable(err)
	}
	defer rows.Close()
	for rows.Next() {
		record, now, err := scan(rows)
		if err != nil {
			return unavailable(err)
		}
		if err := yield(record, now); err != nil {
			return err
		}
	}
	return unavailable(rows.Err())
}

// Settle implements [idempotency.Store].
func (s *Store) Settle(ctx context.Context, id idempotency.ID, token idempotency.Token, carriedOut bool) error {
	statement := `DELETE FROM mesh_gateway_records`
	if carriedOut {
		statement = `UPDATE mesh_gateway_records SET state = 'settled', finished = now()`
	}
	tag, err := s.pool.Exec(ctx, statement+` WHERE id = $1 AND token = $2 AND state = 'sent' AND deadline + $3 * interval '1 microsecond' < now()`,
		id[:], token[:], idempotency.Margin.Microseconds())
	if err != nil {
		return unavailable(err)
	}
	if tag.RowsAffected() == 1 {
		s.counts.forget()
		return nil
	}
	var sent bool
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM mesh_gateway_records WHERE id = $1 AND token = $2 AND state = 'sent')`, id[:], token[:]).Scan(&sent)
	switch {
	case err != nil:
		return unavailable(err)
	case sent:
		return idempotency.ErrInFlight
	}
	return idempotency.ErrNotClaimed
}

// Purge implements [idempotency.Store]. Several gateways may purge at the same time. Records of a
// newer version are left to the gateways that know their retention.
func (s *Store) Purge(ctx context.Context) (more bool, err error) {
	for _, purge := range []struct {
		statement, index string
		age              time.Duration
	}{
		{`UPDATE mesh_gateway_records SET sealed = NULL`, `sealed IS NOT NULL`, idempotency.ReplayTime},
		{`DELETE FROM mesh_gateway_records`, `finished IS NOT NULL`, idempotency.Retention},
	} {
		tag, err := s.pool.Exec(ctx, purge.statement+` WHERE id IN (
				SELECT id FROM mesh_gateway_records
				WHERE `+purge.index+` AND finished <= now() - $1 * interval '1 microsecond' AND version <= $2
				ORDER BY finished LIMIT $3 FOR UPDATE SKIP LOCKED)`,
			purge.age.Microseconds(), idempotency.RecordVersion, purgeBatch)
		if err != nil {
			return false, unavailable(err)
		}
		if tag.RowsAffected() > 0 {
			s.counts.forget()
		}
		more = more || tag.RowsAffected() == purgeBatch
	}
	_, err = s.pool.Exec(ctx, `DELETE FROM mesh_gateway_tickets WHERE expires < now()`)
	return more, unavailable(err)
}

// PutTicket implements [idempotency.Tickets].
func (s *Store) PutTicket(ctx context.Context, id [32]byte, sealed []byte, lifetime time.Duration) error {
	tag, err := s.pool.Exec(ctx, `
		INSERT INTO mesh_gateway_tickets (id, sealed, expires)
		SELECT $1::bytea, $2::bytea, now() + $3 * interval '1 microsecond'
		WHERE (SELECT count(*) FROM mesh_gateway_tickets WHERE expires >= now()) < $4`,
		id[:], sealed, lifetime.Microseconds(), idempotency.MaxTickets)
	if err == nil && tag.RowsAffected() == 0 {
		return idempotency.ErrFull
	}
	return unavailable(err)
}

// TakeTicket implements [idempotency.Tickets].
func (s *Store) TakeTicket(ctx context.Context, id [32]byte) (sealed []byte, ok bool, err error) {
	err = s.pool.QueryRow(ctx, `DELETE FROM mesh_gateway_tickets WHERE id = $1 RETURNING sealed, expires >= now()`, id[:]).Scan(&sealed, &ok)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, unavailable(err)
	}
	return sealed, ok, nil
}

// Ping implements [idempotency.Store].
func (s *Store) Ping(ctx context.Context) error { return unavailable(s.pool.Ping(ctx)) }

// Close implements [idempotency.Store].
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// unavailable wraps the errors of the database.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", idempotency.ErrUnavailable, err)
}

// counts remembers the number of records for a minute, since to count them takes the time of
// reading an index. It adds what this gateway claims in between.
type counts struct {
	limits   idempotency.Limits
	counting singleflight.Group

	mu     sync.Mutex
	since  time.Time
	total  *int
	caller map[idempotency.Caller]int
}

// check returns ErrCallerLimit or ErrFull if there is no room for another record, or the error with
// which it could not count.
func (c *counts) check(ctx context.Context, s *Store, caller idempotency.Caller) error {
	ofCaller, total, known := c.get(caller)
	if !known {
		// Many claims can wait for the count, so it does not end with the one that began it.
		_, err, _ := c.counting.Do(string(caller[:]), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTime)
			defer cancel()
			return nil, c.count(ctx, s, caller)
		})
		if err != nil {
			return err
		}
		ofCaller, total, _ = c.get(caller)
	}
	switch {
	case ofCaller >= c.limits.PerCaller:
		return idempotency.ErrCallerLimit
	case total >= c.limits.Total:
		return idempotency.ErrFull
	}
	return nil
}

func (c *counts) get(caller idempotency.Caller) (ofCaller, total int, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.since) > countTime {
		c.reset()
	}
	ofCaller, known = c.caller[caller]
	if c.total == nil {
		return ofCaller, 0, false
	}
	return ofCaller, *c.total, known
}

func (c *counts) count(ctx context.Context, s *Store, caller idempotency.Caller) error {
	ofCaller, err := s.count(ctx, `WHERE caller = $1`, c.limits.PerCaller, caller[:])
	if err != nil {
		return err
	}
	c.mu.Lock()
	total := c.total
	c.mu.Unlock()
	if total == nil {
		n, err := s.count(ctx, ``, c.limits.Total)
		if err != nil {
			return err
		}
		total = &n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caller[caller] = ofCaller
	if c.total == nil {
		c.total = total
	}
	return nil
}

func (c *counts) add(caller idempotency.Caller, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.caller[caller]; known {
		c.caller[caller] += n
	}
	if c.total != nil {
		*c.total += n
	}
}

// forget makes the next claims count again.
func (c *counts) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *counts) reset() {
	c.since, c.total, c.caller = time.Now(), nil, make(map[idempotency.Caller]int)
}

// count counts records, but not beyond the limit.
func (s *Store) count(ctx context.Context, where string, limit int, args ...any) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM mesh_gateway_records `+where+` LIMIT `+strconv.Itoa(limit)+`) AS counted`, args...).Scan(&n)
	return n, unavailable(err)
}
