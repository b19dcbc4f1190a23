// Command plan measures how fast layouts are searched: every configuration of
// Calculon's search of a 530 B model on 5,120 chips, each predicted, none passed over; and
// a whole answer for Ling-Plus on 4,096 chips of five kinds.
//
//	go run ./bench/plan -threads 2 -runs 5
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

func main() {
	threads := flag.Int("threads", 2, "threads")
	runs := flag.Int("runs", 5, "runs of each, of which the median counts")
	flag.Parse()
	if *threads < 1 || *runs < 1 {
		fmt.Fprintln(os.Stderr, "plan: -threads and -runs are 1 or more")
		os.Exit(2)
	}
	if err := measure(*threads, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "plan:", err)
		os.Exit(1)
	}
}

// result is the last line of the output.
type result struct {
	Threads        int     `json:"threads"`
	Cores          int     `json:"cores"`
	Configurations int     `json:"configurations"` // all predicted, also those that do not fit
	Different      int     `json:"different"`      // to the cost model; kinds of overlap of tensor-parallel traffic and a repeated gather are the same to it
	Fit            int     `json:"fit"`
	Best           float64 `json:"best_sequences_per_second"`
	Seconds        float64 `json:"seconds"`
	CPU            float64 `json:"cpu_seconds"` // of all threads; on a machine with other work, what the time would be with threads of its own, times their number
	PerSecond      float64 `json:"configurations_per_second"`
	Answer         float64 `json:"ling_plus_seconds"`
	AnswerCPU      float64 `json:"ling_plus_cpu_seconds"`
	Layouts        int64   `json:"ling_plus_layouts"`
	Steps          int64   `json:"ling_plus_steps"`
	Plans          int64   `json:"ling_plus_plans"`
}

func measure(threads, runs int) error {
	r := result{Threads: threads, Cores: runtime.NumCPU()}
	runtime.GOMAXPROCS(threads)
	d, err := turing()
	if err != nil {
		return err
	}
	seen := map[distinct]bool{}
	executions(d, func(e execution) { seen[e.different()] = true })
	r.Different = len(seen)
	var times, answers, cpu, answerCPU []float64
	for range runs {
		begin, used := time.Now(), cpuSeconds()
		n, fit, best, err := everything(threads)
		if err != nil {
			return err
		}
		times, cpu = append(times, time.Since(begin).Seconds()), append(cpu, cpuSeconds()-used)
		used = cpuSeconds()
		r.Configurations, r.Fit, r.Best = n, fit, best
		seconds, a, err := answer(threads)
		if err != nil {
			return err
		}
		answers, answerCPU = append(answers, seconds), append(answerCPU, cpuSeconds()-used)
		r.Layouts, r.Steps, r.Plans = a.Counts.Layouts, a.Counts.Steps, a.Counts.Plans
		fmt.Printf("%d configurations in %.3f s, %d fit; Ling-Plus in %.3f s\n", n, times[len(times)-1], fit, seconds)
	}
	r.Seconds, r.Answer, r.CPU, r.AnswerCPU = median(times), median(answers), median(cpu), median(answerCPU)
	r.PerSecond = float64(r.Configurations) / r.Seconds
	return json.NewEncoder(os.Stdout).Encode(r)
}

// cpuSeconds is what this process has used of all cores.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// everything predicts every configuration, from nothing: the models are made anew. Each
// thread takes every so manieth.
func everything(threads int) (n, fit int, best float64, err error) {
	d, err := turing()
	if err != nil {
		return 0, 0, 0, err
	}
	p, err := newPredictor(d)
	if err != nil {
		return 0, 0, 0, err
	}
	type part struct {
		n, fit int
		best   float64
	}
	parts := make([]part, threads)
	inParallel(threads)(threads, func(thread int) {
		var mine part
		at := 0
		executions(d, func(e execution) {
			if at++; at%threads != thread {
				return
			}
			mine.n++
			if rate := p.rate(&e); rate > 0 {
				mine.fit++
				mine.best = max(mine.best, rate)
			}
		})
		parts[thread] = mine
	})
	for _, x := range parts {
		n, fit, best = n+x.n, fit+x.fit, max(best, x.best)
	}
	return n, fit, best, nil
}

// inParallel does things on some threads.
func inParallel(threads int) func(n int, do func(int)) {
	return func(n int, do func(int)) {
		next := make(chan int)
		var all sync.WaitGroup
		for range min(n, threads) {
			all.Go(func() {
				for i := range next {
					do(i)
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		all.Wait()
	}
}
