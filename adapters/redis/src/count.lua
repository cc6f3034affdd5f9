-- Counts the requests of keys in GCRA, by the server's clock, in microseconds.
-- KEYS: the set of processes, and each key. ARGV: the process, after how many seconds of silence one is gone, and for
-- each key: what a request costs, the burst, how many are spent, how many are wanted.
-- Answers how many processes are there, and for each key: how many are granted, and when its quota is full.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

redis.call('ZADD', KEYS[1], time[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. time[1], '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
local processes = redis.call('ZCARD', KEYS[1])

local answer = { processes }
for i = 2, #KEYS do
  local at = 4 * i - 6
  local interval, burst = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local spent, wanted = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local tolerance = interval * burst
  -- How far ahead the time of the full quota is: no further than every process having spent its own part as well, or
  -- the server's clock was put back.
  -- What another program left under the key is no count (of another type, GET is an error): it begins anew.
  local kept = redis.pcall('GET', KEYS[i])
  local ahead = (type(kept) == 'string' and tonumber(kept) or now) - now
  if ahead ~= ahead then ahead = 0 end
  ahead = math.max(0, math.min(ahead, 2 * tolerance + processes * interval)) + spent * interval
  -- Numbers are not exact: a millionth of a request does not matter.
  local room = math.floor((tolerance - ahead) / interval + 0.000001)
  local granted = math.max(0, math.min(wanted, room))
  ahead = math.ceil(ahead + granted * interval)
  if spent + granted > 0 then
    redis.call('SET', KEYS[i], string.format('%.0f', now + ahead), 'PX', string.format('%.0f', math.ceil(ahead / 1000)))
  end
  answer[#answer + 1] = granted
  answer[#answer + 1] = ahead
end
return answer
