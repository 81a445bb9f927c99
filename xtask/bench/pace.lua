-- For wrk: each connection rests 1 to 3 ms after an answer, so that nobody is short of processor time and the latency is
-- the server's own, not that of a queue for the processor.
function delay()
    return math.random(1, 3)
end
