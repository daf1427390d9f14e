// Package spelling compares words, so that the error for a name that does not exist can have the name
// that was meant.
package spelling

// Distance returns the Levenshtein distance of two words: how many bytes must be inserted, removed or
// replaced to make one of them the other.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
