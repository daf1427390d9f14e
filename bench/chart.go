package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"text/template"
)

//go:embed chart.svg.tmpl
var chartTemplate string

// The layout of the chart, in pixels.
const (
	chartWidth  = 760
	plotLeft    = 120
	plotWidth   = 560
	plotTop     = 92
	barHeight   = 14
	barPitch    = 18
	rowGap      = 16
	belowPlot   = 44
	legendLeft  = plotLeft
	legendPitch = 124
)

// chart is a bar chart of the CPU time per request, in relation to that of stock, which
// is a line at 1.
type chart struct {
	Width, Height        int
	PlotLeft, PlotRight  int
	PlotTop, PlotBottom  int
	Base, Subtitle       string
	BaseX, TitleX, NoteY int
	Legend               []chartSeries
	Groups               []chartGroup
	Ticks                []chartTick
}

type chartSeries struct {
	Class, Name string
	X           int
}

type chartGroup struct {
	Name string
	Y    int
	Bars []chartBar
}

type chartBar struct {
	Class, Label, Title   string
	Y, TextY, Width       int
	LabelX                int
	RangeLeft, RangeRight int
	RangeY                int
}

type chartTick struct {
	X     int
	Label string
}

// chart writes the chart as SVG.
func (r *report) chart(w io.Writer) error {
	parsed, err := template.New("chart").Parse(chartTemplate)
	if err != nil {
		return err
	}
	return parsed.Execute(w, r.newChart())
}

func (r *report) newChart() chart {
	cpu := newMetrics()[0]
	base, others := r.peers[0], r.peers[1:]
	find := func(row *row, p peer) (spread, bool) {
		return ratios(r.Samples, row.name, p.name, base.name, cpu.of)
	}
	longest := 1.0
	for _, row := range r.rows {
		for _, p := range others {
			if s, found := find(row, p); found && cpu.rows(row) {
				longest = max(longest, s.Max)
			}
		}
	}
	step := tickStep(longest)
	end := math.Ceil(longest/step) * step
	x := func(ratio float64) int { return plotLeft + int(math.Round(ratio/end*plotWidth)) }

	c := chart{
		Width: chartWidth, PlotLeft: plotLeft, PlotRight: plotLeft + plotWidth, PlotTop: plotTop,
		Base: base.name, BaseX: x(1),
		Subtitle: fmt.Sprintf("%s, %d cores, commit %s, %s; bars are medians, lines ranges over %d rounds",
			r.Machine.Go, r.Machine.Cores, r.Machine.Commit, r.Machine.Time.Format("2006-01-02"), r.rounds()),
	}
	for i, p := range others {
		c.Legend = append(c.Legend, chartSeries{fmt.Sprintf("s%d", i+1), p.name, legendLeft + i*legendPitch})
	}
	y := plotTop + rowGap/2
	for _, row := range r.rows {
		group := chartGroup{Name: row.name}
		top := y
		for i, p := range others {
			s, found := find(row, p)
			if !found || !cpu.rows(row) {
				continue
			}
			group.Bars = append(group.Bars, chartBar{
				Class: fmt.Sprintf("s%d", i+1), Label: fmt.Sprintf("%.2f", s.Median),
				Title: fmt.Sprintf("%s, %s: %.2f (%.2f–%.2f)", row.name, p.name, s.Median, s.Min, s.Max),
				Y:     y, TextY: y + barHeight - 3, Width: x(s.Median) - plotLeft,
				LabelX:    x(s.Max) + 6,
				RangeLeft: x(s.Min), RangeRight: x(s.Max), RangeY: y + barHeight/2,
			})
			y += barPitch
		}
		if len(group.Bars) == 0 {
			continue
		}
		group.Y = (top+y)/2 + 2
		y += rowGap
		c.Groups = append(c.Groups, group)
	}
	c.PlotBottom = y - rowGap/2
	c.NoteY = c.PlotBottom + 18
	c.Height = c.PlotBottom + belowPlot
	for tick := 0.0; tick <= end+step/2; tick += step {
		c.Ticks = append(c.Ticks, chartTick{x(tick), fmt.Sprintf("%.4g", tick)})
	}
	return c
}

// tickStep is the distance of the grid's lines: one of 1, 2 and 5 times a power of ten
// that makes at most six of them.
func tickStep(longest float64) float64 {
	for step := 0.1; ; step *= 10 {
		for _, factor := range []float64{1, 2, 5} {
			if longest/(step*factor) <= 6 {
				return step * factor
			}
		}
	}
}
