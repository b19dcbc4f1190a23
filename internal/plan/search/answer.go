package search

import (
	"time"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// Objective is what a plan is best at.
type Objective string

// Objectives.
const (
	Cost Objective = "cost" // the cheapest that keeps the deadline
	Time Objective = "time" // the fastest within the budget
)

// Question is what a plan is wanted for.
type Question struct {
	Task      plan.Task // Batch is that of the whole run, in sequences
	Tokens    int64
	Fleet     fleet.Fleet
	Objective Objective
	Deadline  float64   // seconds from the start; 0: none
	Budget    float64   // in the fleet's currency; 0: none
	Start     time.Time // for pools that can be had for some days only; zero: not said
	Top       int       // plans wanted; 0: 10
	Exchange  Exchange
	Run       plan.Keeping // checkpoints and restarts
	KVCopies  bool         // tensor-parallel ranks beyond the key and value heads hold copies
	Constants plan.Constants
	Sisters   []chip.Chip // the catalogue, for figures that only a chip of the same architecture has

	// Parallel does n things, in any order and at the same time as it can; nil: one
	// after another. The answer is the same.
	Parallel func(n int, do func(i int))
}

// Exchange is how islands are merged, as far as it costs something.
type Exchange struct {
	Fragments int     // 0: 4, or as many as keep one below a billion parameters
	WireBytes float64 // of a parameter on the wire, up or down; 0: 4, fp32
}

// Answer is what was found.
type Answer struct {
	Plans       []Plan   `json:"plans"` // best first
	Front       []Plan   `json:"front"` // cost against time: the cheapest for ten times from the fastest to the cheapest
	Sensitivity []Change `json:"sensitivity"`
	Limits      []string `json:"limits"` // what keeps the first plan from being better, the strongest first
	Pools       []Judged `json:"pools"`  // every pool of the fleet, in its order
	Currency    string   `json:"currency"`
	Assumed     []string `json:"assumed"` // what was taken for granted, in sentences
	Counts      Counts   `json:"counts"`
}

// Counts says how much was looked at.
type Counts struct {
	Layouts int64 `json:"layouts"` // in the grid, over all islands that were considered
	Steps   int64 `json:"steps"`   // of those that were predicted; the rest cannot be better, or does not fit
	Plans   int64 `json:"plans"`   // combinations of islands that were priced
}

// Span is a number with the range in which 80 % of published runs of such chips lay.
type Span struct {
	Low  float64 `json:"low"`
	Mid  float64 `json:"mid"`
	High float64 `json:"high"`
}

// Plan is a way to train.
type Plan struct {
	Islands   []Island    `json:"islands"`         // in the order of the fleet's pools
	Batch     int         `json:"batch_sequences"` // of one step of all islands together
	Steps     int64       `json:"steps"`           // of that many sequences
	Period    int64       `json:"period_tokens"`
	Fragments int         `json:"fragments"`
	Chips     int         `json:"chips"`
	Seconds   Span        `json:"seconds"`
	Cost      Span        `json:"cost"`
	MFU       float64     `json:"mfu"`               // of the peaks of all chips
	TokenRate float64     `json:"tokens_per_second"` // everything counted
	Run       []plan.Line `json:"run"`               // the whole run's terms
	Money     []Line      `json:"money"`             // what the cost is made of
	Syncers   Syncers     `json:"syncers"`
}

// Island is a group of like chips that trains a replica.
type Island struct {
	Pool      string      `json:"pool"`
	Chip      string      `json:"chip"`
	Count     int         `json:"islands"`         // like this one
	Chips     int         `json:"chips"`           // of each
	Batch     int         `json:"batch_sequences"` // of its own step
	Layout    plan.Layout `json:"layout"`
	Step      Span        `json:"step_seconds"`
	Rate      float64     `json:"tokens_per_second"` // of each, everything counted
	Share     float64     `json:"share"`             // of all tokens, of each
	MFU       float64     `json:"mfu"`
	Bytes     float64     `json:"bytes"`        // on the fullest rank
	Memory    float64     `json:"memory_bytes"` // of a chip
	HostBytes float64     `json:"host_bytes"`   // in the hosts of an island together: anchor, sent copy, state
	Terms     []plan.Told `json:"terms"`        // of a step
	Parts     []plan.Told `json:"parts"`        // of the fullest rank's memory
}

// Syncers are what the exchange needs beside the islands; none with one island.
type Syncers struct {
	Count int     `json:"count"`
	Bytes float64 `json:"bytes"` // in all
}

// Line is an amount of money.
type Line struct {
	Name    string  `json:"name"`
	Hourly  float64 `json:"per_hour"` // 0: not by the hour
	Amount  float64 `json:"amount"`
	Formula string  `json:"formula"`
	Unknown string  `json:"unknown,omitempty"` // why there is no amount
}

// Judged is what became of a pool.
type Judged struct {
	Pool     string   `json:"pool"`
	Chip     string   `json:"chip"`
	Chips    int      `json:"chips"`
	Used     int      `json:"used"`        // chips in the first plan
	Rejected string   `json:"rejected"`    // why no plan can have it; empty: it can
	Short    float64  `json:"short_bytes"` // that a chip lacks for any layout, if that is why
	Unused   string   `json:"unused"`      // why the first plan does without it
	Alone    *Plan    `json:"alone"`       // the best plan on this pool alone; nil: there is none, or no other pool
	Misses   string   `json:"misses"`      // what that plan does not keep of the question, for the fastest does not
	Assumed  []string `json:"assumed"`
}

// Change is what one step away from the question does to the answer.
type Change struct {
	What    string  `json:"what"`
	Kept    bool    `json:"kept"`        // the same islands are still the best
	Cost    float64 `json:"cost_change"` // of the best plan then, as a fraction of the first plan's − 1
	Seconds float64 `json:"time_change"`
	Missing string  `json:"missing"` // why it cannot be said; empty: it can
}
