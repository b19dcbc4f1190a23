package mistura_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// layer is a row of the import order: its packages import packages of lower rows
// only. The reason is what breaks when they do otherwise.
type layer struct {
	packages []string
	reason   string
}

// layers is the import order, highest first.
func layers() []layer {
	return []layer{
		{[]string{"bench/engine", "bench/join", "bench/joiner", "bench/lone", "bench/mixed", "bench/plan", "bench/sgemm", "cmd/mistura"}, "a program holds signals, stdio and the exit code; nobody can import it"},
		{[]string{"bench/cast"}, "a run of processes is played in one way, whatever is measured"},
		{[]string{"bench/rows"}, "an experiment's rows are kept in one way, whatever is measured"},
		{[]string{"bench/peer"}, "what the engine is measured against is started and asked in one way, whoever measures"},
		{[]string{"internal/cli"}, "verbs read input and show output; what they start must work without them"},
		{[]string{"internal/dash", "internal/gauge", "internal/island", "internal/serve"},
			"these run whole sides of a run; an island must not know the coordinator's side but by messages, nor either who looks on"},
		{[]string{"internal/huggingface"}, "other people's formats are read and written for whoever asks; what runs must not depend on them"},
		{[]string{"internal/pytorch"}, "what starts a trainer of another language does it for whoever asks, and takes no part in the run"},
		{[]string{"internal/launch"}, "a launcher starts islands for whoever asks, and takes no part in the run"},
		{[]string{"internal/footprint", "internal/gathered", "internal/probe"}, "what processes take is counted from what is allocated below; whoever announces or refuses is above"},
		{[]string{"internal/attach", "internal/attach/attachtest", "internal/corpus", "internal/engine", "internal/engine/enginetest", "internal/engine/kernel",
			"internal/engine/oracle", "internal/engine/scalar", "internal/machine", "internal/store", "internal/store/storetest", "internal/transport"},
			"effects act on orders and are replaced by a simulator's; none may decide or need another"},
		{[]string{"internal/audit"}, "the audit judges what is on a tape, whoever wrote it, and must not share the writers' reasoning"},
		{[]string{"internal/plan/assess", "internal/plan/fit", "internal/plan/search", "internal/plan/validate"},
			"what predictions are used for: finding a plan, judging a chip, fitting and checking the model; whoever shows it is above"},
		{[]string{"internal/coord", "internal/ledger", "internal/syncer"},
			"decisions are pure and know each other's results as input only, so that each can be replayed alone"},
		{[]string{"internal/runfile"}, "the run file is a value that all above are configured from"},
		{[]string{"internal/layout"}, "pieces are arithmetic on tensors and fragments, the same to whoever sends, takes or holds one"},
		{[]string{"internal/published"}, "published runs are put into the words of anatomy and chip, for whoever predicts them"},
		{[]string{"internal/fleet", "internal/plan"}, "what a layout costs is predicted, and what chips there are is read, for whoever searches, judges or shows"},
		{[]string{"internal/anatomy", "internal/fragment", "internal/gate"}, "places fragments in a model's vector, and counts what models take, out of the values below"},
		{[]string{"internal/chip", "internal/engine/numeric", "internal/model", "internal/outer", "internal/rng", "internal/spike", "internal/wire"},
			"values and arithmetic do not know who calls them"},
		{[]string{"internal/authority"}, "who is trusted is settled before anybody speaks, and knows nothing of what is said"},
		{[]string{"internal/sheet"}, "files that users write are read in one strict way, which knows no key of any"},
		{[]string{"examples/plans", "internal/fault", "internal/scripttest", "python"}, "files that the program carries, bad input and scripts of tests are the same everywhere"},
	}
}

// sideways are the imports inside a row that are meant, with their reason. Tests
// may look sideways anyway.
func sideways() map[[2]string]string {
	return map[[2]string]string{
		{"internal/engine", "internal/engine/kernel"}:     "the engine is built on the kernels",
		{"internal/attach/attachtest", "internal/attach"}: "the trainer of tests speaks the protocol with its codec",
		{"internal/store/storetest", "internal/store"}:    "the suite is of the store's own interface",
	}
}

// tools stand beside the program: they import nothing of it and it nothing of them.
func tools() []string {
	return []string{"checks/testrun", "internal/engine/kernel/gen"}
}

// rank gives the row of every package.
func rank() map[string]int {
	ranks := make(map[string]int)
	for i, l := range layers() {
		for _, p := range l.packages {
			ranks[p] = i
		}
	}
	return ranks
}

func TestImportsGoDown(t *testing.T) {
	ranks := rank()
	seen := make(map[string]bool)
	for _, s := range sources(t) {
		seen[s.pkg] = true
		if s.pkg == "." || slices.Contains(tools(), s.pkg) {
			checkNoOwnImports(t, s)
			continue
		}
		from, ok := ranks[s.pkg]
		if !ok {
			t.Errorf("%s: package %s has no row in the import order; give it one in layers()", s.path, s.pkg)
			continue
		}
		for _, imported := range s.imports() {
			own, ok := strings.CutPrefix(imported, modulePath+"/")
			if !ok || own == s.pkg || allowed(s, own, ranks) {
				continue
			}
			t.Errorf("%s: %s may not import %s: %s", s.path, s.pkg, own, layers()[from].reason)
		}
	}
	for p := range ranks {
		if !seen[p] {
			t.Errorf("layers() lists %s, which does not exist", p)
		}
	}
}

// ARCHITECTURE.md names every package, and its list has the import order.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	data, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	_, list, _ := strings.Cut(page, "```\n")
	list, _, _ = strings.Cut(list, "```")
	last, end := "", 0
	for _, row := range layers() {
		from := end
		for _, p := range row.packages {
			name, ok := strings.CutPrefix(p, "internal/")
			switch at := strings.Index(list, name+" "); {
			case !ok || strings.HasSuffix(p, "test") && p != "internal/scripttest":
			case !strings.Contains(page, name):
				t.Errorf("ARCHITECTURE.md does not name %s", p)
			case strings.Contains(name, "/") && at < 0: // told of in the text
			case at < from:
				t.Errorf("ARCHITECTURE.md lists %s above %s, or not at all", p, last)
			default:
				end = max(end, at)
			}
		}
		last = row.packages[0]
	}
}

// allowed says whether the import stands in the order.
func allowed(s source, imported string, ranks map[string]int) bool {
	to, known := ranks[imported]
	if !known || !s.test && strings.HasSuffix(imported, "test") {
		return false
	}
	_, meant := sideways()[[2]string{s.pkg, imported}]
	return meant || to > ranks[s.pkg] || s.test && to == ranks[s.pkg]
}

// checkNoOwnImports keeps repository tests and tools apart from the program.
func checkNoOwnImports(t *testing.T, s source) {
	t.Helper()
	for _, imported := range s.imports() {
		if strings.HasPrefix(imported, modulePath) {
			t.Errorf("%s: imports %s; what checks or generates the program must not need it to build", s.path, imported)
		}
	}
}

// owners are the packages that a library is kept to, so that it can be replaced in one place.
func owners() map[string][]string {
	return map[string][]string{
		"google.golang.org/grpc":     {"internal/transport", "internal/wire"},
		"github.com/spf13/":          {"internal/cli"},
		"github.com/goccy/go-yaml":   {"internal/sheet"},
		"github.com/klauspost/cpuid": {"internal/engine/kernel"},
		"golang.org/x/term":          {"internal/dash", "internal/cli"},
		"github.com/mmcloughlin/avo": {"internal/engine/kernel/gen"},
	}
}

func TestLibrariesStayWithTheirOwners(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports() {
			for library, own := range owners() {
				if strings.HasPrefix(imported, library) && !slices.Contains(own, s.pkg) {
					t.Errorf("%s: imports %s, which is kept to %s", s.path, imported, strings.Join(own, ", "))
				}
			}
		}
	}
}

// Helpers of tests must not end up in the program.
func TestProgramDoesNotImportTesting(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || strings.HasSuffix(s.pkg, "test") {
			continue
		}
		for _, imported := range s.imports() {
			if imported == "testing" || strings.HasPrefix(imported, "testing/") || strings.HasPrefix(imported, "pgregory.net/rapid") {
				t.Errorf("%s: imports %s outside a test", s.path, imported)
			}
		}
	}
}
