package main

import (
	"fmt"
	"math"
	"strings"
)

// markdown returns a table for each metric.
func (r *report) markdown() string {
	var b strings.Builder
	if r.title != "" {
		fmt.Fprintf(&b, "\n## %s\n", r.title)
	}
	fmt.Fprintf(&b, "\nFigures are ratios to “%s” in the same round: the median over %d rounds, and the range.\n", r.peers[0], r.rounds())
	fmt.Fprintf(&b, "%d requests a measurement for small answers, fewer for large ones.\n", r.Requests)
	for _, m := range newMetrics() {
		r.table(&b, m)
	}
	list(&b, "Notes", r.Notes)
	list(&b, "Problems", r.Problems)
	return b.String()
}

// rounds is the number of rounds that count.
func (r *report) rounds() int {
	rounds := make(map[int]bool)
	for _, s := range r.Samples {
		rounds[s.Round] = true
	}
	return len(rounds)
}

func (r *report) table(b *strings.Builder, m metric) {
	var lines []string
	for _, row := range r.rows {
		if !m.rows(row) {
			continue
		}
		cells := []string{row.name}
		for i, p := range r.peers {
			if i == 0 {
				absolute, found := absolutes(r.Samples, row.name, p.name, m.of)
				cells = append(cells, m.absolute(absolute, found))
				continue
			}
			cells = append(cells, ratioCell(ratios(r.Samples, row.name, p.name, r.peers[0].name, m.of)))
		}
		lines = append(lines, tableLine(cells))
	}
	if len(lines) == 0 {
		return
	}
	header, rule := []string{"Row"}, []string{"---"}
	for i, p := range r.peers {
		name := p.name
		if i == 0 && m.unit != "" {
			name += ", " + m.unit
		}
		header, rule = append(header, name), append(rule, "--:")
	}
	fmt.Fprintf(b, "\n### %s\n\n%s%s%s", m.name, tableLine(header), tableLine(rule), strings.Join(lines, ""))
}

func tableLine(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// absolute returns a cell in the unit of the metric.
func (m metric) absolute(s spread, found bool) string {
	if !found {
		return "–"
	}
	number := func(value float64) string { return grouped(value*m.scale, m.decimals) }
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

func ratioCell(s spread, found bool) string {
	if !found {
		return "–"
	}
	return fmt.Sprintf("**%s** (%s–%s)", ratioText(s.Median), ratioText(s.Min), ratioText(s.Max))
}

// ratioText writes a ratio with two decimals, and a small one with three.
func ratioText(ratio float64) string {
	if ratio < 0.1 {
		return fmt.Sprintf("%.3f", ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

// grouped writes a number with commas between the thousands.
func grouped(value float64, decimals int) string {
	if decimals > 0 && math.Abs(value) < 1000 {
		return fmt.Sprintf("%.*f", decimals, value)
	}
	digits := fmt.Sprintf("%.0f", value)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func list(b *strings.Builder, title string, items []string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n", title)
	for _, item := range items {
		fmt.Fprintf(b, "- %s\n", item)
	}
}
