package budget

import "math/bits"

const (
	// What is expected before the first reply of an RPC, in bytes. A list of a hundred items
	// has about as much. Too small a guess costs one repeated call; too large a guess refuses
	// calls at the start of the program.
	firstReply = 16 << 10
	firstList  = 256 << 10
	// minExpected is the least size that is reserved. Distinguishing smaller replies is not
	// worth a repeated call.
	minExpected = 4 << 10
	// remembered is the number of replies after which the weight of the earlier ones is halved.
	remembered = 256
	// bounds is the number of buckets. The last one ends at 2^(minBits+bounds/4), 128 MiB.
	bounds  = 80
	minBits = 7
)

// sizes estimates the sizes of the replies of one RPC. It counts them in buckets that are a
// quarter of a power of two wide, and forgets old ones gradually.
type sizes struct {
	// salt distinguishes the RPC from others in a hash.
	salt   uint64
	counts [bounds]uint16
	total  int
	// expected is the upper bound of the 95th percentile, in bytes.
	expected int64
}

func newSizes(number uint64, list bool) *sizes {
	s := &sizes{salt: number * 0x9e3779b97f4a7c15, expected: firstReply}
	if list {
		s.expected = firstList
	}
	return s
}

// add counts a reply.
func (s *sizes) add(size int64) {
	s.counts[bucketOf(size)]++
	if s.total++; s.total >= remembered {
		s.total = 0
		for i := range s.counts {
			s.counts[i] /= 2
			s.total += int(s.counts[i])
		}
	}
	above := s.total / 20
	for i := bounds - 1; i >= 0; i-- {
		if above -= int(s.counts[i]); above < 0 {
			s.expected = max(minExpected, boundOf(i))
			return
		}
	}
}

// bucketOf returns the bucket of a size.
func bucketOf(size int64) int {
	n := bits.Len64(uint64(max(size, 0)))
	if n <= minBits {
		return 0
	}
	quarter := int(size>>(n-3)) & 3
	return min((n-minBits-1)*4+quarter, bounds-1)
}

// boundOf returns the size that no size of the bucket reaches.
func boundOf(bucket int) int64 {
	n := bucket/4 + minBits + 1
	return int64(4+bucket%4+1) << (n - 3)
}
