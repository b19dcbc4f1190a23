package machine

import "testing"

// TestG17LimitOfTheControlGroup: a host with 128 cores, a limit of 8. Counting the host's
// cores starts 128 workers for 8 processors.
func TestG17LimitOfTheControlGroup(t *testing.T) {
	for name, c := range map[string]struct {
		groups string
		files  map[string]string
		want   int
	}{
		"no limit": {"0::/\n", map[string]string{"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 128},
		"8 of 128": {"0::/\n", map[string]string{"/sys/fs/cgroup/cpu.max": "800000 100000\n"}, 8},
		"2.5 is 3": {"0::/pod\n", map[string]string{"/sys/fs/cgroup/pod/cpu.max": "250000 100000\n"}, 3},
		"a tenth":  {"0::/\n", map[string]string{"/sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1},
		"version 1": {"4:cpu,cpuacct:/docker/x\n", map[string]string{
			"/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "400000\n", "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n"}, 4},
		"version 1 without": {"4:cpu,cpuacct:/\n", map[string]string{
			"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 128},
		"garbage": {"::\nx\n0::/\n", map[string]string{"/sys/fs/cgroup/cpu.max": "NaN 0\n"}, 128},
	} {
		if got := cpus(128, quotas(c.groups, func(f string) string { return c.files[f] })); got != c.want {
			t.Errorf("%s: %d processors, want %d", name, got, c.want)
		}
	}
	if n := CPUs(); n < 1 || n > usable() {
		t.Errorf("this process may use %d of %d processors", n, usable())
	}
}
