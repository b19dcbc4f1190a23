package gathered_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// host is a file of boxes under way.
type host struct {
	tensors []store.Tensor
	marks   []gathered.Mark
}

// read writes a host's file and adds its boxes.
func (h host) read(t *testing.T, st store.Store, name string, boxes gathered.Boxes) {
	t.Helper()
	marks, err := json.Marshal(h.marks)
	if err == nil {
		_, err = store.PutTensors(t.Context(), st, name, h.tensors, map[string]string{gathered.Key: string(marks)})
	}
	if err != nil {
		t.Fatal(err)
	}
	f, size, err := st.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenSafetensors(f, size)
	if err == nil {
		err = boxes.Add(r, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// However hosts share the tensors of a slot, its digest is that of the whole; of a slot that lacks
// an element there is none.
func TestDigestOfManyHostsIsThatOfTheWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for round := range 60 {
		st := store.NewMemory()
		hosts := make([]host, 1+random.IntN(4))
		var table []model.Tensor
		var whole []store.Tensor
		for i := range 4 {
			x := model.Tensor{Name: fmt.Sprintf("t%d", i), Shape: []int{1 + random.IntN(8), 1 + random.IntN(8)}}
			values := make([]float32, x.Size())
			for k := range values {
				values[k] = random.Float32()
			}
			name := "moment1." + x.Name
			table, whole = append(table, x), append(whole, store.Tensor{Name: name, Shape: x.Shape, F32: values})
			for at := 0; at < len(values); { // ranges of its elements, as flat shards are
				n := 1 + random.IntN(len(values)-at)
				h := &hosts[random.IntN(len(hosts))]
				own := fmt.Sprintf("%s#%d", name, len(h.marks))
				h.tensors = append(h.tensors, store.Tensor{Name: own, Shape: []int{n}, F32: values[at : at+n]})
				h.marks = append(h.marks, gathered.Mark{Name: own, Tensor: name, Offset: []int{at}, Extent: []int{n}})
				at += n
			}
		}
		boxes := gathered.Boxes{}
		for i, h := range hosts {
			h.read(t, st, fmt.Sprintf("host-%d", i), boxes)
		}
		if got, err := boxes.Digest("moment1", table); err != nil || got != gathered.Digest(whole) {
			t.Fatalf("round %d: %s, %v", round, got, err)
		}
		lacking := gathered.Boxes{}
		for i, h := range hosts {
			if n := len(h.marks); n > 0 {
				h.marks = h.marks[:n-1]
				h.read(t, st, fmt.Sprintf("lacking-%d", i), lacking)
			}
		}
		if _, err := lacking.Digest("moment1", table); err == nil || !strings.Contains(err.Error(), "the hosts' files hold") {
			t.Fatalf("round %d: of a slot that lacks elements: %v", round, err)
		}
	}
}

// Whatever a file says of its boxes, a tensor that is read has every element from one of them.
func FuzzBoxes(f *testing.F) {
	f.Add(`[{"name":"w#0","tensor":"w","offset":[0,0],"extent":[2,2]},{"name":"w#1","tensor":"w","offset":[0,2],"extent":[2,1]}]`)
	f.Add(`[{"name":"w#0","tensor":"w","offset":[2],"extent":[4]},{"name":"w#1","tensor":"w","offset":[0],"extent":[2]}]`)
	f.Add(`[{"name":"w#0","tensor":"w","offset":[0],"extent":[4]},{"name":"w#1","tensor":"w","offset":[1],"extent":[2]}]`) // twice, and a hole
	f.Add(`[{"name":"w#1","tensor":"w","offset":[9223372036854775807,-1],"extent":[2,4611686018427387904]},{"name":"none"}]`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		var file bytes.Buffer
		tensors := []store.Tensor{{Name: "w#0", Shape: []int{4}, F32: make([]float32, 4)}, {Name: "w#1", Shape: []int{2}, F32: make([]float32, 2)}}
		if err := store.WriteSafetensors(&file, tensors, map[string]string{gathered.Key: text}); err != nil {
			return // no file can say it
		}
		r, err := store.OpenSafetensors(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		boxes := gathered.Boxes{}
		if boxes.Add(r, "file") != nil {
			return
		}
		for name := range boxes {
			whole := make([]float32, 6)
			for i := range whole {
				whole[i] = float32(math.NaN())
			}
			if boxes.Read(name, []int{2, 3}, whole) != nil {
				continue
			}
			for i, v := range whole {
				if v != 0 {
					t.Errorf("tensor %q: element %d is of no box", name, i)
				}
			}
		}
	})
}
