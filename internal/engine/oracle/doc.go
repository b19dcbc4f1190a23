// Package oracle holds the tests that compare the native engine and its scalar
// twin with an independent program: the PyTorch model in python/oracle, which
// takes its gradients from autograd and its steps from torch.optim.AdamW.
//
// The oracle computes in float64 and chooses experts freely; its choices are
// imposed on whatever is compared, because two logits closer than rounding would
// otherwise make two right programs differ. How many tokens would have chosen
// otherwise is reported.
//
// The package has tests only. Without a Python that has torch and numpy they are
// skipped, by name.
package oracle
