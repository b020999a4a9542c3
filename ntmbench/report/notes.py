"""What the report says of its tables and figures: how they are to be read."""

from __future__ import annotations

TITLE = "Benchmark report"
OVERVIEW = (
    "Solved seeds of all that are finished: a diverged run counts as not solved unless it "
    "solved the task before, an unfinished or failed run does not count. The times and losses "
    "are medians over seeds: of the sequences to solve, and of the lowest validation loss; "
    "the small plots show the wrong bits that the weights of that loss make. Every number is "
    "in `tables/`."
)
NUMBERED = "`#1`, `#2` number the configurations of one model on one task: see its section."
COVERAGE = (
    "With few seeds all bootstrap intervals of this page are too narrow. In a simulation "
    "(`python benchmarks/coverage.py`) those called 95 % held the truth 65 to 79 % of the "
    "time with three seeds, 84 to 94 % with five, 89 to 95 % with ten. Intervals of a chance "
    "to win do worse where one side nearly always wins: 39, 65 and 83 %."
)
BEST = (
    "The best entry is the one that solves the task most surely, by the lower end of the "
    "solve rate's 95 % interval; among equals the one with the lower median time to solve, "
    "then with the lower median loss. It is chosen and judged on the same seeds, which "
    "flatters it the more, the more entries there are. How sure it is: the chance that one of "
    "its seeds beats one of the next best's. A seed beats another by solving the task sooner; "
    "where neither solved it, by a lower validation loss after as much training or less. "
    "Where that cannot be told, because a run was trained for less, and where two are equal, "
    "the pair is undecided and counts half."
)
ACROSS = (
    "Entries with finished runs of every task. The loss of a seed is scaled between the best "
    "possible predictor (0) and a coin (1); shown is the mean over tasks of its interquartile "
    "mean over seeds, with a bootstrap interval that draws seeds within each task."
)
TIMES = (
    "Over finished seeds; unfinished and failed runs are listed, and left out of rates, times "
    "and losses. The interval of the solve rate is Wilson's, from three seeds on. Seeds that "
    "did not solve the task are counted as slower than any that did (censored); the median is "
    "*not reached* when the middle seed is one of them. Ranges are the lowest and the highest "
    "seed. The interquartile mean leaves out the lowest and the highest quarter of the seeds, "
    "rounded down; its interval is a bootstrap over seeds."
)
CURVES = (
    "The median is over finished seeds, where all of them have a validation; a diverged seed "
    "counts as infinitely high from where it stops. The band is the 95 % bootstrap interval "
    "of the median, from three seeds on."
)
RIVALS = (
    "A negative difference of the lowest validation losses is in favour of {best}. Runs of "
    "one seed are pairs: as far as both were trained, with batches of one size and without "
    "noise on the inputs, they saw the same sequences in the same order."
)
CONDITIONS = (
    "Not ranked with these, being trained, validated or counted as solved in another way: "
    "{entries}."
)
MEMORY = (
    "Over 32 sequences at the point of the trace, weights with the lowest validation loss. "
    "Entropy of the weightings: 0 bits is a single location; reads at scored steps, writes at "
    "the others (all steps, where all are scored), mean over heads. Used: two to the entropy "
    "of the mean weighting, as a share of all locations. Order followed: of all steps from "
    "one read to the next, the share that go from a location to another to which the writes, "
    "too, went on from there; for each read head by the write head it follows most, and of "
    "the read head with the highest share. A head is at a location that has over half of its "
    "weight; one that never is follows nothing (-). Repeat copy jumps back, and cannot reach "
    "100 %, and a head that goes along with the writes has it at once. Linear in the priority: "
    "R² of the write head whose location is most so."
)
MEMORY_ROWS = (
    "Scores that were asked for with `ntmbench eval RUN --memory-rows ... --keep`: the "
    "trained weights with a memory of another size."
)
CARRIED = (
    "Seeds that were stopped when they had solved the task count with their last value from "
    "there on."
)
POINTS = (
    "Weights with the lowest validation loss; median over finished seeds (lowest to highest). "
    "A seed without a finite score counts as worse than any other."
)
REFERENCES = (
    "Entries were evaluated on different sequences: chance and optimum are given for each, "
    "and their losses are not to be compared."
)
PAPER = (
    "Published figures as the task file quotes them, beside the median over finished seeds of "
    "our entries of the same model; smoke runs are not shown. At a point, ours is that of the "
    "weights with the lowest validation loss. On the training distribution it is the "
    "validation loss after as many training sequences as the published model had, and a dash "
    "where our runs did not get there; where that number is not said, it is the last "
    "validation loss."
)
