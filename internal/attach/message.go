package attach

// Protocol is the version of the local protocol. A trainer of another protocol is
// refused by both numbers.
//
// History (append only):
//
//	1  first version
const Protocol = 1

// Tensor is a tensor of the trainer's model, as a whole.
type Tensor struct {
	Name  string   `json:"name"`
	Shape []int    `json:"shape"`
	State bool     `json:"state"` // no gradient reaches it
	Tied  []string `json:"tied"`  // other names that it has in the trainer's model
}

// Piece is what one rank owns of one tensor, in the whole tensor's coordinates. A single
// offset and extent on a tensor of more dimensions is a range of its elements in
// row-major order.
type Piece struct {
	Name    string `json:"name"`
	Offset  []int  `json:"offset"`
	Extent  []int  `json:"extent"`
	Replica int    `json:"replica"` // 0 is sent; others only adopt
}

// Hello is a rank's first message.
type Hello struct {
	Protocol    int      `json:"protocol"`
	Version     string   `json:"version"` // of the trainer's package
	Rank        int      `json:"rank"`    // of World in the island
	World       int      `json:"world"`
	HostRank    int      `json:"host_rank"` // of HostWorld on this host
	HostWorld   int      `json:"host_world"`
	Part        int      `json:"part"` // of Parts hosts
	Parts       int      `json:"parts"`
	PID         int      `json:"pid"`
	Incarnation uint64   `json:"incarnation"` // of the island, from part 0's welcome; 0 there
	Engine      string   `json:"engine"`      // torch or external
	Device      string   `json:"device"`
	Torch       string   `json:"torch"` // version
	OwnData     bool     `json:"own_data"`
	OwnRate     bool     `json:"own_rate"`
	NoGate      bool     `json:"no_gate"`
	Name        string   `json:"name"` // of the island; empty: the coordinator's
	Seed        bool     `json:"seed"`
	Evaluate    bool     `json:"evaluate"`
	Tensors     []Tensor `json:"tensors"` // what the rank knows of the whole
	Pieces      []Piece  `json:"pieces"`
	Probe       bool     `json:"probe"` // it can compute a probe for the gate
	Slots       []string `json:"slots"` // optimizer state it gives and takes, a value for each weight
}

// Control: this rank speaks for the island.
func (h *Hello) Control() bool { return h.Rank == 0 }

// Area is memory shared with a rank: fp32 in little-endian order.
type Area struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// Welcome answers the hellos of all ranks of a host.
type Welcome struct {
	Protocol    int      `json:"protocol"`
	Version     string   `json:"version"`
	RunID       string   `json:"run_id"`
	Island      string   `json:"island"`
	Incarnation uint64   `json:"incarnation"`
	Era         uint32   `json:"era"`
	Fragments   [][]int  `json:"fragments"` // by fragment: numbers of this rank's pieces
	Shm         Area     `json:"shm"`
	Out         []int64  `json:"out"` // by piece: where the rank puts what is sent, in bytes; -1: it is not sent
	In          []int64  `json:"in"`  // by piece: where it finds what comes
	Run         Document `json:"run"`
	Restored    bool     `json:"restored"`
	Position    int64    `json:"position"`
	Back        string   `json:"back,omitempty"` // join string by which a process that a rank starts comes back as this island; empty: who started this one sees to that
}

// Fault is what is wrong, as far as it is known: in place of a welcome (refused) or of
// any other answer (error).
type Fault struct {
	Where   string `json:"where"`
	Value   string `json:"value"`
	Problem string `json:"problem"`
	Next    string `json:"next"`
	Again   bool   `json:"again,omitempty"` // the run goes on, and takes the trainer in when it joins anew
}

// Refused answers a hello that leads to nothing; Failed any other message, when the
// island ends. A rank that cannot go on says Failed too.
type (
	Refused struct{ Fault }
	Failed  struct{ Fault }
)

// Mapped: the rank has opened its shared memory.
type Mapped struct{}

// Boundary: the control rank has made a step, or (step 0) is ready for the first.
type Boundary struct {
	Step         uint64  `json:"step"`
	Applied      bool    `json:"applied"`
	Loss         Number  `json:"loss"`
	Tokens       int64   `json:"tokens"`
	GradientNorm *Number `json:"gradient_norm"`
	Seconds      Number  `json:"seconds"`
	BusySeconds  Number  `json:"busy_seconds"`
	Rate         *Number `json:"rate"`
	ExpertTokens []int64 `json:"expert_tokens"`
}

// Again: the control rank has done what it was told while it waits.
type Again struct{}

// What an Act says to do after its actions.
const (
	Go   = "go"
	Wait = "wait"
	Stop = "stop"
)

// Act answers Boundary and Again.
type Act struct {
	Actions    []Action `json:"actions"`
	Then       string   `json:"then"`
	Reason     string   `json:"reason"`
	Rate       *Number  `json:"rate"`    // of the next step; nil: the trainer's own
	Samples    []Span   `json:"samples"` // of the next step
	Left       int64    `json:"left"`    // samples leased behind them
	TokensSeen int64    `json:"tokens_seen"`
	Clock      int64    `json:"clock"` // tokens that rate and routing of the next step depend on, its own included
}

// What an Action does.
const (
	Adopt    = "adopt"    // θ ← θ + in
	Install  = "install"  // θ ← in
	Gather   = "gather"   // out ← θ
	Forget   = "forget"   // moments ← 0
	Evaluate = "evaluate" // measure the validation loss
	Gate     = "gate"     // compute the probe; out ← gradients
	Aside    = "aside"    // keep θ in host memory
	Back     = "back"     // θ ← what was kept
)

// Action is one thing that all ranks do at the same boundary.
type Action struct {
	Do       string `json:"do"`
	Fragment int    `json:"fragment"`
	Version  uint64 `json:"version"`
	Sequence uint64 `json:"sequence"`

	Gate     *Question `json:"gate,omitempty"` // of Gate
	*Keeping           // of Save and Restore
}

// Question is the probe of the gate: rows of one more token than they have inputs.
type Question struct {
	Rows       int       `json:"rows"`
	Tokens     []int32   `json:"tokens"`
	Boundaries bool      `json:"boundaries"` // the end token ends a document
	EndToken   int32     `json:"end_token"`
	Choices    [][]int32 `json:"choices"` // experts to impose, by layer; null: none
}

// Gated: the gradients of the probe are in the rank's out-area. The control rank says the
// rest. It is answered once they are sketched: the area is the rank's again.
type Gated struct {
	Loss         Number    `json:"loss"`          // that the gradients are of, nats a token
	NumberFormat string    `json:"number_format"` // fp32, bf16, fp16 …
	Choices      [][]int32 `json:"choices"`       // experts that it would have chosen; null: unknown
	Problem      string    `json:"problem"`       // why there is no answer; empty: there is one
}

// Sketched answers Gated.
type Sketched struct{}

// Span is the samples from <= n < to.
type Span struct {
	From, To uint64
	Retry    bool
}

// Fetch asks for a fragment's value in the rank's in-area; Value says that it is there.
type Fetch struct {
	Fragment int    `json:"fragment"`
	Version  uint64 `json:"version"`
	Op       string `json:"op"` // Adopt or Install
}

// Value answers Fetch. Not changed: there is nothing to add.
type Value struct {
	Fragment int    `json:"fragment"`
	Version  uint64 `json:"version"`
	Changed  bool   `json:"changed"`
}

// Gathered: the rank's part of the fragment is in its out-area.
type Gathered struct {
	Fragment int    `json:"fragment"`
	Sequence uint64 `json:"sequence"`
	Step     uint64 `json:"step"`
}

// Adopted: the rank has taken over what was in its in-area, and needs it no more.
type Adopted struct {
	Fragment int    `json:"fragment"`
	Version  uint64 `json:"version"`
	Step     uint64 `json:"step"`
}

// Judge asks for the spike rule's decision before a step is applied.
type Judge struct {
	Loss         Number  `json:"loss"`
	GradientNorm *Number `json:"gradient_norm"`
}

// Verdict answers Judge.
type Verdict struct {
	Apply   bool   `json:"apply"`
	Factor  Number `json:"factor"`  // of the learning rate
	Verdict string `json:"verdict"` // apply, half, withhold or skip
	Reason  string `json:"reason"`
}

// Validation is a validation loss that the island has measured.
type Validation struct {
	Loss   Number `json:"loss"`
	Tokens int64  `json:"tokens"`
	Step   uint64 `json:"step"`
}

// Bye: the trainer wants to leave; after an act with stop, it has done so.
type Bye struct {
	Reason string `json:"reason"`
}
