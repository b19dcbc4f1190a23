package attach

import "fmt"

func sizeText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
