package island

import (
	"errors"
	"fmt"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
)

// sent is the boxes of the model that ranks send, and whose each is.
type sent struct {
	boxes []layout.Box
	ranks []int
}

// add appends what a rank sends: of boxes that several ranks hold one sends it.
func (s *sent) add(r *attach.Rank, boxes []layout.Box) {
	for i, b := range boxes {
		if r.Hello.Pieces[i].Replica == 0 {
			s.boxes, s.ranks = append(s.boxes, b), append(s.ranks, r.Hello.Rank)
		}
	}
}

// cover says where the boxes are not the whole model, each element once.
func (s *sent) cover(table []model.Tensor) error {
	err := layout.Cover(table, s.boxes)
	var d *layout.Defect
	if !errors.As(err, &d) {
		return err
	}
	problem := fmt.Sprintf("element %v %s", d.Element, d.Where())
	if len(d.Boxes) == 2 {
		problem += fmt.Sprintf(", of ranks %d and %d", s.ranks[d.Boxes[0]], s.ranks[d.Boxes[1]])
	}
	return &fault.Input{
		Where: fmt.Sprintf("tensor %s %v", d.Tensor, d.Shape), Problem: problem,
		Next: "have layout say pieces that cover it exactly once over all ranks",
	}
}
