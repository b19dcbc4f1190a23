package fleet

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/sheet"
)

// Bounds of a file.
const (
	maxBytes = 1 << 20
	maxPools = 16         // the search tries their mixes
	maxChips = 10_000_000 // of a pool
	// mostAmount is what a price or a rate is at most, in any currency, and one over it what a
	// rate is at least.
	mostAmount = 1e9
)

const page = "docs/formats/fleet.md"

// Keys lists every key of a fleet file as a dotted path.
func Keys() []string { return sheet.KeysOf(reflect.TypeFor[file]()) }

// Parse reads a fleet file; chips are looked up in the catalogue. The name stands in
// errors, all of which are *fault.Input.
func Parse(name string, data []byte, chips chip.Catalogue) (Fleet, error) {
	if len(data) > maxBytes {
		return Fleet{}, &fault.Input{Where: name, Problem: fmt.Sprintf("has %d bytes, a fleet file has at most %d", len(data), maxBytes), Next: "give the fleet file; see " + page}
	}
	d := &sheet.Reader{File: name, Page: page, Sample: "currency: USD", Holds: "fleet", Keys: Keys}
	root, err := d.Parse(data)
	if err != nil {
		return Fleet{}, err
	}
	f := file{Format: Format}
	if err := d.Read(root, &f); err != nil {
		return Fleet{}, err
	}
	return (&builder{name: name, lines: d.Lines, chips: chips}).fleet(f)
}

// builder checks what was read and turns it into values. The first fault stays.
type builder struct {
	name  string
	lines map[string]int
	chips chip.Catalogue
	err   error
}

// where names a value as the user knows it.
func (b *builder) where(path string) string {
	for at := path; ; {
		if line, ok := b.lines[at]; ok {
			return fmt.Sprintf("%s:%d: %s", b.name, line, path)
		}
		dot := strings.LastIndex(at, ".")
		if dot < 0 {
			return b.name + ": " + path
		}
		at = at[:dot]
	}
}

func (b *builder) refuse(path, value, problem, next string) {
	if b.err == nil {
		b.err = &fault.Input{Where: b.where(path), Value: fault.Clip(value), Problem: problem, Next: next}
	}
}

// says: the file has the key.
func (b *builder) says(path string) bool {
	_, ok := b.lines[path]
	return ok
}

func (b *builder) fleet(f file) (Fleet, error) {
	if f.Format < 1 || f.Format > Format {
		b.refuse("format", strconv.Itoa(f.Format), "is no format that this program reads", fmt.Sprintf("it reads up to %d; see %s", Format, page))
	}
	out := Fleet{File: b.name, Name: f.Name}
	if len(f.Pools) == 0 || len(f.Pools) > maxPools {
		b.refuse("pools", strconv.Itoa(len(f.Pools)), "is no number of pools to plan with", fmt.Sprintf("list 1 to %d, each with name, chip and count", maxPools))
	}
	for i, p := range f.Pools {
		out.Pools = append(out.Pools, b.pool(entryPath("pools", i), p, out.Pools))
	}
	out.Syncers = b.hosts("syncers", f.Syncers, out.Pools)
	out.Controllers = b.hosts("controllers", hostsEntry{Count: f.Controllers.Count, Price: f.Controllers.Price}, out.Pools)
	for i, l := range f.Links {
		out.Links = append(out.Links, b.link(entryPath("links", i), l, out))
	}
	for i, r := range f.Rates {
		out.Rates = append(out.Rates, b.rate(entryPath("rates", i), r, out.Rates))
	}
	out.Exchange = b.exchange(f)
	out.Currency = b.currency(f.Currency, out)
	if b.err != nil {
		return Fleet{}, b.err
	}
	return out, nil
}

var (
	poolName     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	currencyName = regexp.MustCompile(`^[A-Z]{3}$`)
)

func (b *builder) pool(path string, e poolEntry, before []Pool) Pool {
	taken := e.Name == SyncersPlace || slices.ContainsFunc(before, func(p Pool) bool { return p.Name == e.Name })
	switch {
	case !poolName.MatchString(e.Name):
		b.refuse(path+".name", e.Name, "is no name of a pool", "write lower-case letters, digits and hyphens, at most 40")
	case taken:
		b.refuse(path+".name", e.Name, "is the name of something else", "give each pool a name of its own")
	case e.Count < 1 || e.Count > maxChips:
		b.refuse(path+".count", strconv.Itoa(e.Count), "is no number of chips", fmt.Sprintf("use 1 to %d", maxChips))
	}
	if e.Chip == "" {
		b.refuse(path+".chip", "", "is missing", "mistura chips lists the chips")
	}
	p := Pool{Name: e.Name, Count: e.Count, Use: Kind(e.Use), Network: float64(e.Network), HostMemory: float64(e.Memory), where: b.where(path)}
	var err error
	if p.Chip, err = b.chips.Find(e.Chip); err != nil {
		var in *fault.Input
		if !asInput(err, &in) {
			panic("fleet: " + err.Error())
		}
		b.refuse(path+".chip", e.Chip, in.Problem, in.Next)
		return p
	}
	b.figures(path+".figures", e.Figures, &p)
	b.prices(path, e, &p)
	p.From, p.Until = b.day(path+".from", e.From, false), b.day(path+".until", e.Until, false)
	if !p.From.IsZero() && !p.Until.IsZero() && !p.From.Before(p.Until) {
		b.refuse(path+".until", e.Until, "is not after "+e.From, "write the first day on which the chips are gone again")
	}
	return p
}

// day reads a date.
func (b *builder) day(path, text string, needed bool) time.Time {
	if text == "" {
		if needed {
			b.refuse(path, "", "is missing", "write the day on which it was true, such as 2026-11-29")
		}
		return time.Time{}
	}
	t, err := time.Parse(dayLayout, text)
	if err != nil || t.Year() < 1970 {
		b.refuse(path, text, "is no day", "write year-month-day, such as 2026-11-29")
	}
	return t
}

// place is a pool, or where the syncers stand.
func (b *builder) place(path, name string, pools []Pool) {
	names := []string{SyncersPlace}
	for _, p := range pools {
		names = append(names, p.Name)
	}
	if slices.Contains(names, name) {
		return
	}
	next := "write one of " + strings.Join(names, ", ")
	if near := fault.Closest(name, names); near != "" {
		next = fmt.Sprintf("did you mean %q?", near)
	}
	b.refuse(path, name, "is no pool of the file", next)
}

func (b *builder) link(path string, e linkEntry, f Fleet) Link {
	if len(e.Between) != 2 || e.Between[0] == e.Between[1] {
		b.refuse(path+".between", strings.Join(e.Between, ", "), "does not join two places", "write [one pool, another], or "+SyncersPlace+" for one of them; what joins hosts of a pool is its network")
		return Link{}
	}
	for _, name := range e.Between {
		b.place(path+".between", name, f.Pools)
	}
	if _, twice := f.Link(e.Between[0], e.Between[1]); twice {
		b.refuse(path+".between", strings.Join(e.Between, ", "), "are joined already", "keep one link of the two")
	}
	if e.Rate <= 0 {
		b.refuse(path+".rate", "", "is missing", "write bytes a second in one direction, such as 100 Gbit/s or 12.5 GB/s")
	}
	return Link{Between: [2]string{e.Between[0], e.Between[1]}, Rate: float64(e.Rate), Price: b.onePrice(path+".price", e.Price, "GB")}
}

// hosts reads a section; nil when the file has none.
func (b *builder) hosts(path string, e hostsEntry, pools []Pool) *Hosts {
	if !b.says(path) {
		return nil
	}
	if unsaid := path == "syncers" && !b.says(path+".count"); !unsaid && (e.Count < 1 || e.Count > maxChips) {
		b.refuse(path+".count", strconv.Itoa(e.Count), "is no number of hosts", fmt.Sprintf("use 1 to %d", maxChips))
	}
	if e.Near != "" {
		b.place(path+".near", e.Near, pools)
	}
	return &Hosts{Count: e.Count, Memory: float64(e.Memory), Link: float64(e.Link), Near: e.Near, Price: b.onePrice(path+".price", e.Price, "host-hour")}
}
