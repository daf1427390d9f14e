package policy

import (
	"crypto/sha256"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// keyTime is how long a key is known after Mesh has accepted it.
	keyTime = 5 * time.Minute
	// maxKeys is the maximum number of keys that are known, and keyShards the number of locks for
	// them.
	maxKeys   = 65536
	keyShards = 64
)

// Keys knows the API keys that Mesh has accepted in the last five minutes, by their SHA-256. It is
// bounded, so it may know fewer. It is safe for concurrent use.
type Keys struct {
	seed   maphash.Seed
	shards [keyShards]keyShard
}

type keyShard struct {
	mu      sync.Mutex
	expires map[[sha256.Size]byte]time.Time
}

// NewKeys returns Keys that knows no key.
func NewKeys() *Keys {
	k := &Keys{seed: maphash.MakeSeed()}
	for i := range k.shards {
		k.shards[i].expires = make(map[[sha256.Size]byte]time.Time)
	}
	return k
}

func (k *Keys) shard(hash [sha256.Size]byte) *keyShard {
	return &k.shards[maphash.Comparable(k.seed, hash)%keyShards]
}

// hashOf returns the hash of an API key, without an allocation for one of the usual length.
func hashOf(key string) [sha256.Size]byte {
	var short [64]byte
	if len(key) <= len(short) {
		return sha256.Sum256(short[:copy(short[:], key)])
	}
	return sha256.Sum256([]byte(key))
}

// Accepted tells that Mesh has accepted the key with the SHA-256.
func (k *Keys) Accepted(hash [sha256.Size]byte) {
	s := k.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.expires[hash]; !known && len(s.expires) >= maxKeys/keyShards {
		for other := range s.expires { // any
			delete(s.expires, other)
			break
		}
	}
	s.expires[hash] = time.Now().Add(keyTime)
}

// Rejected tells that Mesh has rejected the key with the SHA-256.
func (k *Keys) Rejected(hash [sha256.Size]byte) {
	s := k.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.expires, hash)
}

// Known reports whether Mesh has accepted the key with the SHA-256 lately.
func (k *Keys) Known(hash [sha256.Size]byte) bool {
	s := k.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.expires[hash])
}
