package machine

import (
	"math"
	"strconv"
	"strings"
)

// CPUs is how many processors this process may keep busy: those that it may run on, and
// no more than the limit of its control group allows, rounded up. A container with 8
// processors on a host with 128 is a machine with 8.
func CPUs() int { return cpus(usable(), quotas(read("/proc/self/cgroup"), read)) }

// quotas are the limits of a control group, both versions, in processors; none: no limit.
func quotas(groups string, read func(string) string) (out []float64) {
	folders := []string{""}
	v1 := []string{""}
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0":
			folders = append(folders, parts[2])
		case strings.Contains(","+parts[1]+",", ",cpu,"):
			v1 = append(v1, parts[2])
		}
	}
	for _, f := range folders {
		if words := strings.Fields(read("/sys/fs/cgroup" + f + "/cpu.max")); len(words) == 2 {
			out = append(out, share(words[0], words[1])...)
		}
	}
	for _, f := range v1 {
		base := "/sys/fs/cgroup/cpu" + f
		out = append(out, share(strings.TrimSpace(read(base+"/cpu.cfs_quota_us")), strings.TrimSpace(read(base+"/cpu.cfs_period_us")))...)
	}
	return out
}

// share is quota over period, unless there is no limit.
func share(quota, period string) []float64 {
	q, err := strconv.ParseFloat(quota, 64) // "max" and -1: none
	p, err2 := strconv.ParseFloat(period, 64)
	if err != nil || err2 != nil || !(q > 0) || !(p > 0) {
		return nil
	}
	return []float64{q / p}
}

// cpus is the least of all limits.
func cpus(usable int, quotas []float64) int {
	for _, q := range quotas {
		usable = min(usable, int(math.Ceil(q)))
	}
	return max(usable, 1)
}
