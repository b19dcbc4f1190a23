// Package plan predicts what training a model takes on chips: how long a step is, as
// a sum of named terms, what memory the fullest rank needs, and what a whole run
// costs. It is pure: it knows chips by [Hardware], models by package anatomy, and
// what real machines make of their peaks by [Constants], which were fitted to
// published runs and stand in a file with the number of runs behind each.
//
// Enter with [Prepare], which takes a [Task] and the hardware of an island;
// [Model.Step] then answers for a [Layout] in about a microsecond, and [Model.Explain]
// gives the same terms with their formulas. Layouts are refused by [Layout.Check] with
// the legal choices, not by Step.
//
// docs/planner.md has the method, the constants and the errors.
package plan
