package dash

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/ledger"
)

// Options say what is being written to.
type Options struct {
	Live  bool                       // a terminal that moves its cursor; else plain lines
	Color bool                       // colours may be used; without Live they never are
	Size  func() (columns, rows int) // of the terminal, asked before each drawing; nil or 0: 80 by 24
	Every time.Duration              // least time between two plain progress lines; 0: 5 s
}

// redraw is the least time between two drawings of the block for progress alone.
const redraw = 100 * time.Millisecond

// Dash writes a run as it goes. Its methods may be called from several goroutines.
type Dash struct {
	o Options

	mu     sync.Mutex // guards all below
	w      io.Writer
	status *ledger.Status
	lines  int       // of the block on the screen
	shown  time.Time // when progress was last written, by the run's clock
	closed bool
}

// New begins with an empty screen.
func New(w io.Writer, o Options) *Dash {
	if o.Every == 0 {
		o.Every = 5 * time.Second
	}
	if o.Size == nil {
		o.Size = func() (int, int) { return 0, 0 }
	}
	return &Dash{o: o, w: w, status: ledger.New()}
}

// Show takes in one event. What cannot be written is lost: a run does not fail
// because nobody can watch it.
func (d *Dash) Show(e ledger.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Apply(e)
	if ledger.Notable(e) {
		d.line(d.stamp() + clean(e.String()))
		return
	}
	d.progress()
}

// Tick tells the time while no event comes, so that speeds and times stay true.
func (d *Dash) Tick(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status.Run.At.IsZero() || d.status.Ended != nil {
		return
	}
	d.status.Advance(now)
	d.progress()
}

// Write puts text, such as a log's, above the block: whole lines at a time.
func (d *Dash) Write(text []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(string(text)) {
		d.line(clean(strings.TrimRight(line, "\n")))
	}
	return len(text), nil
}

// Close takes the block off the screen; what scrolled above it stays. Later events
// are not shown.
func (d *Dash) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		io.WriteString(d.w, d.erase())
	}
	d.closed = true
}

// line writes a line above the block and draws the block again. d.mu is held.
func (d *Dash) line(text string) {
	if d.closed {
		return
	}
	out := d.erase()
	if d.o.Live {
		columns, _ := d.size()
		out += Wrap(text, columns-1, stampColumns) + "\n" + d.block()
	} else {
		out += text + "\n"
	}
	io.WriteString(d.w, out)
}

// progress shows where the run is, unless that was done just now. d.mu is held.
func (d *Dash) progress() {
	now, every := d.status.Now, d.o.Every
	if d.o.Live {
		every = redraw
	}
	if d.closed || now.Sub(d.shown) < every {
		return
	}
	if d.o.Live {
		d.shown = now
		io.WriteString(d.w, d.erase()+d.block())
		return
	}
	if d.status.Trained() == 0 {
		return
	}
	d.shown = now
	d.line(d.stamp() + plain(d.status))
}

// erase moves up over the block and clears it. d.mu is held.
func (d *Dash) erase() string {
	if d.lines == 0 {
		return ""
	}
	up := fmt.Sprintf("\x1b[%dA\r\x1b[J", d.lines)
	d.lines = 0
	return up
}

// block renders the block and remembers its height. d.mu is held.
func (d *Dash) block() string {
	if d.status.Run.At.IsZero() || d.status.Ended != nil {
		return ""
	}
	columns, rows := d.size()
	lines := block(d.status, columns-1, rows-1, d.o.Color)
	d.lines = len(lines)
	return strings.Join(lines, "\n") + "\n"
}

// size is that of the terminal, or what is usual where it does not say.
func (d *Dash) size() (columns, rows int) {
	columns, rows = d.o.Size()
	if columns <= 0 {
		columns = 80
	}
	if rows <= 0 {
		rows = 24
	}
	return columns, rows
}

// stampColumns is how wide a stamp is.
const stampColumns = 9

// stamp is the time since the start of the run, before a line.
func (d *Dash) stamp() string {
	return fmt.Sprintf("%7s  ", Clock(d.status.Elapsed()))
}

// clean keeps text from other processes from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// Clock writes a duration as a person reads it: 5s, 1m05s, 2h03m, 3d04h.
func Clock(t time.Duration) string {
	s := int64(t.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	}
}
