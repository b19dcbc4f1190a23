package serve

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// section is a heading of a page of docs/formats, and what its table describes.
type section struct {
	heading string
	value   any
}

// Every record of the tape, with its keys in the order of their writing.
func TestTapePageAgreesWithTheRecords(t *testing.T) {
	checkPage(t, "tape.md", []section{
		{"`era`", eraRecord{}}, {"`era.undone`", undone{}}, {"`launch`", coord.LaunchRecord{}}, {"`arrive`", coord.ArriveRecord{}}, {"`gate`", coord.GateRecord{}}, {"`gate.verdict`", gate.Verdict{}}, {"`lease`", coord.LeaseRecord{}},
		{"`spike`", coord.SpikeRecord{}}, {"`rollback`", coord.RollbackRecord{}}, {"`close`", coord.CloseRecord{}}, {"`checkpoint`", coord.CheckpointRecord{}}, {"`restored`", restoredRecord{}}, {"`not_restored`", coord.NotRestoredRecord{}}, {"`end`", coord.EndRecord{}}, {"`summary`", summaryRecord{}},
		{"`view`", viewRecord{}}, {"`merge`", syncer.MergeRecord{}}, {"`part`", syncer.PartRecord{}},
		{"`part.adoptions`", syncer.Adoption{}}, {"`dropped`, `refused`", syncer.RulingRecord{}},
		{"`incarnation_closed`", syncer.ClosedRecord{}},
	})
}

func TestGatePageAgreesWithTheRecord(t *testing.T) {
	checkPage(t, "gate.md", []section{
		{"Keys", gate.Record{}}, {"`probe`", gate.Probe{}}, {"`own_errors`", gate.Own{}}, {"`tensors`", gate.Tensor{}},
	})
}

func TestCheckpointPageAgreesWithTheParts(t *testing.T) {
	checkPage(t, "checkpoint.md", []section{
		{"`" + syncerPart + "`", syncer.Tables{}}, {"`" + syncerPart + " fragments`", syncer.FragmentTable{}},
		{"`" + syncerPart + " fragments.log`", outer.Credit{}}, {"`" + syncerPart + " fragments.learners`", syncer.LearnerEntry{}},
		{"`" + coordPart + "`", coord.Snapshot{}}, {"`" + coordPart + " retries`", coord.Range{}}, {"`" + coordPart + " members`", coord.MemberSnapshot{}},
		{"`meta`", Meta{}}, {"`meta islands`", SavedPart{}}, {"`meta islands slots`", SavedSlot{}}, {"`meta islands files`", SavedFile{}}, {"`meta islands hosts`", SavedHost{}},
		{"The run folder's `" + CoordinatorName + "`", coordinator{}},
	})
	headings := tables(t, "checkpoint.md")
	for _, part := range []string{ModelPart, momentumPart, gatePart, islandPart("NAME")} {
		if !slices.ContainsFunc(headings.names, func(h string) bool { return strings.Contains(h, "`"+part+"`") }) {
			t.Errorf("checkpoint.md: no heading for %s", part)
		}
	}
}

// What every page, and the list of changes, say of the numbers of formats and protocols.
func TestPagesNameTheNumbersOfThisProgram(t *testing.T) {
	for page, text := range map[string]string{
		"formats/run.md":        fmt.Sprintf("Format integer: **%d**", runfile.Format),
		"formats/tokens.md":     fmt.Sprintf("Format integer: **%d**", corpus.Format),
		"formats/tape.md":       fmt.Sprintf("Format integer: **%d**", store.TapeFormat),
		"formats/checkpoint.md": fmt.Sprintf("Format integer: **%d**", store.CheckpointFormat),
		"formats/gate.md":       fmt.Sprintf("Format integer: **%d**", gate.Format),
		"formats/attach.md":     fmt.Sprintf("**Version %d.**", attach.Protocol),
		"formats/wire.md":       fmt.Sprintf("## Wire protocol %d\n", wire.Protocol),
		"../CHANGELOG.md": fmt.Sprintf("Formats: run file %d, tokens %d, tape %d, checkpoint %d, gate record %d, island state %d, wire protocol %d, local protocol %d, ",
			runfile.Format, corpus.Format, store.TapeFormat, store.CheckpointFormat, gate.Format, island.StateFormat, wire.Protocol, attach.Protocol),
	} {
		data, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), text) {
			t.Errorf("%s does not say %q", page, text)
		}
	}
}

// "The keys of model in the run file": these are on a page of their own.
func TestRunPageHasTheModelOfACheckpoint(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/run.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range jsonKeys(model.Config{}) {
		if !strings.Contains(string(data), "| `model."+key+"` |") {
			t.Errorf("run.md: no key model.%s", key)
		}
	}
}

func checkPage(t *testing.T, page string, sections []section) {
	t.Helper()
	described := tables(t, page)
	for _, s := range sections {
		if got, want := described.keys[s.heading], jsonKeys(s.value); !slices.Equal(got, want) {
			t.Errorf("%s: %s describes\n%v, the keys are\n%v", page, s.heading, got, want)
		}
	}
}

// described is what the headings of a page and the tables below them say.
type described struct {
	names []string            // headings without their marks
	keys  map[string][]string // by heading: first column of its table
}

func tables(t *testing.T, page string) described {
	t.Helper()
	data, err := os.ReadFile("../../docs/formats/" + page)
	if err != nil {
		t.Fatal(err)
	}
	d := described{keys: map[string][]string{}}
	heading := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
			d.names = append(d.names, heading)
		}
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			d.keys[heading] = append(d.keys[heading], strings.Trim(strings.TrimSpace(cells[1]), "`"))
		}
	}
	return d
}

// jsonKeys are the keys of a struct in JSON, in their order.
func jsonKeys(v any) []string {
	var keys []string
	for f := range reflect.TypeOf(v).Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}
