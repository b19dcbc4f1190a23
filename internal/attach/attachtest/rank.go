package attachtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/attach"
)

// Rank is one rank of a trainer.
type Rank struct {
	Hello   attach.Hello
	Welcome *attach.Welcome
	Weights [][]float32 // by piece
	State   State

	Answer func(r *Rank) *attach.Gated // what it says of a probe; nil: a trainer like any other
	Giving func(a attach.Action)       // called before it says that it has given its part; may be nil

	aside  [][]float32 // by piece
	conn   net.Conn
	lines  *bufio.Scanner
	memory []byte
}

// Open connects, waiting for the socket to be there until the limit is over.
func Open(path string, limit time.Duration) (net.Conn, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil || time.Since(began) > limit {
			return conn, err
		}
	}
}

// Begin says hello and waits for the answer, which may be long.
func Begin(conn net.Conn, h attach.Hello) (*Rank, error) { return begin(conn, h, First) }

func begin(conn net.Conn, h attach.Hello, first Weights) (*Rank, error) {
	r := &Rank{Hello: h, conn: conn, lines: bufio.NewScanner(conn)}
	r.lines.Buffer(nil, attach.MaxLineBytes)
	for _, p := range h.Pieces {
		n := 1
		for _, e := range p.Extent {
			n *= e
		}
		r.Weights = append(r.Weights, make([]float32, n))
	}
	m, err := r.Ask(&h)
	if s, ok := m.(*attach.Seed); ok && err == nil {
		m, err = r.bring(s, first)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	w, ok := m.(*attach.Welcome)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T instead of a welcome", m)
	}
	r.Welcome = w
	f, err := os.OpenFile(w.Shm.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if r.memory, err = unix.Mmap(int(f.Fd()), 0, int(w.Shm.Bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	r.room()
	return r, r.Say(&attach.Mapped{})
}

// Weights is the weight of an element of a tensor that a trainer begins with; the key tells
// the element from all others of the model.
type Weights func(tensor string, key uint64) float32

// First is that of a trainer like any other.
func First(_ string, key uint64) float32 { return target(key, 1<<63) }

// bring gives the first weights and waits for the welcome.
func (r *Rank) bring(s *attach.Seed, first Weights) (any, error) {
	f, err := os.OpenFile(s.Shm.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, int(s.Shm.Bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	for i, p := range r.Hello.Pieces {
		each(p, func(n int, key uint64) { r.Weights[i][n] = first(p.Name, key) })
		if s.Out[i] >= 0 {
			copy(unsafe.Slice((*float32)(unsafe.Pointer(&memory[s.Out[i]])), len(r.Weights[i])), r.Weights[i])
		}
	}
	unix.Munmap(memory) //nolint:errcheck // it was mapped
	return r.Ask(&attach.Seeded{})
}

// Say sends a message.
func (r *Rank) Say(m any) error {
	line, err := attach.Encode(m)
	if err == nil {
		_, err = r.conn.Write(line)
	}
	return err
}

// Refusal is what the other side says in place of an answer.
type Refusal struct{ attach.Fault }

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s %q: %s; %s", r.Where, r.Value, r.Problem, r.Next)
}

// Ask sends a message and waits for its answer. A *Refusal is one, too.
func (r *Rank) Ask(m any) (any, error) {
	if err := r.Say(m); err != nil {
		if answer, e := r.next(); e == nil {
			return nil, refusal(answer) // why it does not listen any more
		}
		return nil, err
	}
	answer, err := r.next()
	if err == nil {
		err = refusal(answer)
	}
	return answer, err
}

func refusal(m any) error {
	switch m := m.(type) {
	case *attach.Refused:
		return &Refusal{m.Fault}
	case *attach.Failed:
		return &Refusal{m.Fault}
	}
	return nil
}

func (r *Rank) next() (any, error) {
	if r.lines.Scan() {
		return attach.Decode(r.lines.Bytes())
	}
	if err := r.lines.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the socket was closed")
}

// Close ends the rank.
func (r *Rank) Close() {
	r.conn.Close()
	if r.memory != nil {
		unix.Munmap(r.memory) //nolint:errcheck // it was mapped
		r.memory = nil
	}
}

func (r *Rank) area(at int64, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&r.memory[at])), n)
}

// do carries out one action.
func (r *Rank) do(a attach.Action, step uint64) error {
	if r.memory == nil {
		return nil // the dead do nothing
	}
	switch a.Do {
	case attach.Gather:
		for _, p := range r.Welcome.Fragments[a.Fragment] {
			if at := r.Welcome.Out[p]; at >= 0 {
				copy(r.area(at, len(r.Weights[p])), r.Weights[p])
			}
		}
		if r.Giving != nil {
			r.Giving(a)
		}
		return r.Say(&attach.Gathered{Fragment: a.Fragment, Sequence: a.Sequence, Step: step})
	case attach.Adopt, attach.Install:
		return r.take(a, step)
	case attach.Gate:
		return r.answer()
	case attach.Aside:
		for _, w := range r.Weights {
			r.aside = append(r.aside, slices.Clone(w))
		}
		return nil
	case attach.Back:
		for i, w := range r.aside {
			copy(r.Weights[i], w)
		}
		r.aside = nil
		return nil
	case attach.Save:
		return r.save(a.Keeping)
	case attach.Restore:
		return r.restore(a.Keeping)
	case attach.Forget:
		return nil // it has no moments
	}
	return fmt.Errorf("an action %q", a.Do)
}

// answer says what it has made of a probe.
func (r *Rank) answer() error {
	say := Honest
	if r.Answer != nil {
		say = r.Answer
	}
	said := say(r)
	if said == nil {
		return nil
	}
	m, err := r.Ask(said)
	if _, ok := m.(*attach.Sketched); err == nil && !ok {
		err = fmt.Errorf("%T instead of sketched", m)
	}
	return err
}

// Honest leaves the gradients of a probe and says what there is to say.
func Honest(r *Rank) *attach.Gated {
	for i, p := range r.Hello.Pieces {
		if out := r.Out(i); out != nil {
			Gradient(p, out, r.Weights[i])
		}
	}
	return &attach.Gated{Loss: 1, NumberFormat: "fp32"}
}

// Out is where a piece's values go; nil: they are not sent.
func (r *Rank) Out(i int) []float32 {
	if at := r.Welcome.Out[i]; at >= 0 {
		return r.area(at, len(r.Weights[i]))
	}
	return nil
}

func (r *Rank) take(a attach.Action, step uint64) error {
	m, err := r.Ask(&attach.Fetch{Fragment: a.Fragment, Version: a.Version, Op: a.Do})
	if err != nil {
		return err
	}
	v, ok := m.(*attach.Value)
	if !ok || v.Fragment != a.Fragment || v.Version != a.Version {
		return fmt.Errorf("fetch of %+v was answered by %#v", a, m)
	}
	for _, p := range r.Welcome.Fragments[a.Fragment] {
		in := r.area(r.Welcome.In[p], len(r.Weights[p]))
		for i, x := range in {
			switch {
			case a.Do == attach.Install:
				r.Weights[p][i] = x
			case v.Changed:
				r.Weights[p][i] += x
			}
		}
	}
	return r.Say(&attach.Adopted{Fragment: a.Fragment, Version: a.Version, Step: step})
}
