package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The migrations are applied in the order of their names. The number of a migration is its position
// from 1, and a file that was released never changes.
//
//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrationLock is the key of the advisory lock that makes concurrent migrations wait. Its
	// value means nothing.
	migrationLock = 7_042_618_313_530_561_869
	// undefinedTable is a code of PostgreSQL (appendix A of its documentation).
	undefinedTable = "42P01"
)

// Migrate creates the tables, or brings them up to date. It returns the names of the migrations
// that it applied: all of those that are missing, or none if there is an error.
func Migrate(ctx context.Context, url string) (applied []string, err error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	// A migration may take longer than a call.
	delete(config.ConnConfig.RuntimeParams, statementTimeout)
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("idempotency store: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS mesh_gateway_schema (version integer PRIMARY KEY, applied timestamptz NOT NULL)`); err != nil {
			return err
		}
		version, err := schemaVersion(ctx, tx)
		if err != nil {
			return err
		}
		for number, file := range files {
			if number+1 <= version {
				continue
			}
			text, err := migrations.ReadFile(file)
			if err != nil {
				return err
			}
			// Without arguments, a file may have several statements.
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO mesh_gateway_schema VALUES ($1, now())`, number+1); err != nil {
				return err
			}
			applied = append(applied, file)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("idempotency store: the migration failed, and nothing was changed: %w", err)
	}
	return applied, nil
}

// checkSchema returns an error if a migration is missing. A database that has more belongs to a
// newer gateway, whose tables this one can use.
func checkSchema(ctx context.Context, db querier) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, db)
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok && failure.Code == undefinedTable {
		return fmt.Errorf("%w: it has no tables of mesh-gateway; create them with: mesh-gateway store migrate --store URL", errUnusable)
	}
	if err == nil && version < len(files) {
		return fmt.Errorf("%w: its tables have version %d, and this gateway needs %d; bring them up to date with: mesh-gateway store migrate --store URL", errUnusable, version, len(files))
	}
	return err
}

// querier is a connection, a transaction or a pool.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func schemaVersion(ctx context.Context, db querier) (version int, err error) {
	err = db.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM mesh_gateway_schema`).Scan(&version)
	return version, err
}
