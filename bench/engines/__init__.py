"""The engine bench: how fast every engine runs the same encoders on this machine, and how near to its physical limit.

python -m bench.engines --quick

traces      lengths of real traffic, and texts of real words that have them
models      encoders to run, as a Hugging Face folder and as our graphs
peers       what runs them: a function of a few lines each, with the best settings that it has
peak        the physical limit: loops of nothing but multiplications
timing      contenders take turns, round by round; medians with bootstrap intervals
cell        one model on some threads, in a process of its own
plan        which cells and cases are measured
summary     the numbers that are quoted, and the goals beside them
table plot  what people look at
run         one command, one run
"""
