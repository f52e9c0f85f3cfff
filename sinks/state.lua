#!lua name=tillstream

-- The state of one partition, written by one call per batch. Redis 7.0 function API; all keys of a call share one hash tag.
--
--   {p17}:meta       hash    offset (last source offset applied), ledger (last ledger offset applied), as_of (latest tick),
--                            horizon (latest local date whose postings were let go), history (last ledger offset in ClickHouse)
--   {p17}:accounts   hash    account id -> holdings, JSON
--   {p17}:postings   hash    natural key -> ledger record
--   {p17}:returned   hash    natural key of a sale -> what came back of it, JSON
--   {p17}:waiting    hash    natural key of a sale -> events that wait for it, JSON
--   {p17}:members    hash    account id -> state of its member, JSON
--   {p17}:sheets     hash    natural key -> what the event's rules stand at, JSON, where its posting does not say it
--   {p17}:chronicle:<account> hash  natural keys of the account's events -> their instants
--   {p17}:budgets    hash    rule id -> points that this partition's ledger took from the rule's budget
--   {p17}:days       zset    local dates of the postings held, as yyyymmdd; {p17}:day:<date> list of natural keys, at most a thousand an
--                            element, one a line; of sales with the mark r: where something came back of them on that date
--   {p17}:dayledger  hash    local date -> last ledger offset of its postings
--   {p17}:expiries   zset    dates on which points expire or were spent, as yyyymmdd; {p17}:expiry:<date> set of account ids
--   {p17}:review     set     account ids that the next tick is to look at for their group's sake; {p17}:reviewing: those that it has taken

local CHUNK = 1000  -- Lua's stack takes some 8,000 arguments at once.

local function hset_all(key, list)
  for from = 1, #list, 2 * CHUNK do
    redis.call('HSET', key, unpack(list, from, math.min(from + 2 * CHUNK - 1, #list)))
  end
end

local function sadd_all(prefix, index, groups)
  for _, group in ipairs(groups) do
    local date, members = group[1], group[2]
    redis.call('ZADD', index, (string.gsub(date, '-', '')), date)
    for from = 1, #members, CHUNK do
      redis.call('SADD', prefix .. date, unpack(members, from, math.min(from + CHUNK - 1, #members)))
    end
  end
end

-- An element for a thousand keys: as members of a set they would take as long as all else that happens to their receipts.
local function push_days(tag, days, ledger)
  for _, day in ipairs(days) do
    local date, keys = day[1], day[2]
    redis.call('ZADD', tag .. ':days', (string.gsub(date, '-', '')), date)
    redis.call('RPUSH', tag .. ':day:' .. date, unpack(keys))
    redis.call('HSET', tag .. ':dayledger', date, ledger)
  end
end

-- Applies a batch if the partition still stands where the writer believes it does: KEYS meta, accounts, postings, returned, waiting,
-- members, sheets, budgets; ARGV: tag, previous offset, new offset, ledger offset, as_of, and one MessagePack of ten lists: accounts {id,
-- JSON, ...}, postings {key, record, ...}, returned {key, JSON, ...}, waiting {key, JSON, ...} (empty: nobody waits any more), days {{date,
-- {keys, ...}}, ...} (a thousand keys one a line), expiries {{date, {account id, ...}}, ...}, members {id, JSON, ...}, sheets {key, JSON, ...}, chronicles {{account id,
-- {key, instant, ...}}, ...}, budgets {rule id, points, ...}. One argument, since a client takes longer to pack ten thousand than Redis to
-- unpack them.
-- Gives {1, new offset}, or {0, the offset that it stands at} and changes nothing.
local function apply(keys, args)
  local meta, tag = keys[1], args[1]
  local stands = redis.call('HGET', meta, 'offset') or '-1'
  if stands ~= args[2] then return {0, tonumber(stands)} end
  local accounts, postings, returned, waiting, days, expiries, members, sheets, chronicles, budgets = unpack(cmsgpack.unpack(args[6]))
  hset_all(keys[2], accounts)
  hset_all(keys[3], postings)
  hset_all(keys[4], returned)
  hset_all(keys[6], members)
  hset_all(keys[7], sheets)
  for _, chronicle in ipairs(chronicles) do hset_all(tag .. ':chronicle:' .. chronicle[1], chronicle[2]) end
  for at = 1, #budgets, 2 do redis.call('HINCRBY', keys[8], budgets[at], budgets[at + 1]) end
  for at = 1, #waiting, 2 do
    if waiting[at + 1] == '' then redis.call('HDEL', keys[5], waiting[at])
    else redis.call('HSET', keys[5], waiting[at], waiting[at + 1]) end
  end
  push_days(tag, days, args[4])
  sadd_all(tag .. ':expiry:', tag .. ':expiries', expiries)
  redis.call('HSET', meta, 'offset', args[3], 'ledger', args[4], 'as_of', args[5])
  return {1, tonumber(args[3])}
end

-- Forgets what expired: KEYS meta, expiries index, one expiry set per date; ARGV: the offset that must stand, the dates.
local function forget_expiries(keys, args)
  if (redis.call('HGET', keys[1], 'offset') or '-1') ~= args[1] then return 0 end
  for place = 2, #args do
    redis.call('ZREM', keys[2], args[place])
    redis.call('DEL', keys[place + 1])
  end
  return #args - 1
end

-- Takes the accounts that are to be looked at: KEYS review, reviewing. Gives them, with those that a tick had taken and not done.
local function take_reviews(keys)
  redis.call('SUNIONSTORE', keys[2], keys[1], keys[2])
  redis.call('DEL', keys[1])
  return redis.call('SMEMBERS', keys[2])
end

-- What came back of a sale goes with the day of its latest return.
local function let_go_returned(key, sale, date)
  local returned = redis.call('HGET', key, sale)
  if returned and cjson.decode(returned).day == date then redis.call('HDEL', key, sale) end
end

-- Lets go of postings of one local date that ClickHouse has, a thousand at most: KEYS meta, postings, returned, days, that day's keys,
-- dayledger; ARGV: the date. Gives the natural keys; none where history is not that far, or nothing is left of the day.
local function let_go(keys, args)
  local meta, date = keys[1], args[1]
  local written = tonumber(redis.call('HGET', meta, 'history') or '-1')
  if written < tonumber(redis.call('HGET', keys[6], date) or '0') then return {} end
  if date > (redis.call('HGET', meta, 'horizon') or '') then redis.call('HSET', meta, 'horizon', date) end
  local gone = {}
  for key in string.gmatch(redis.call('LPOP', keys[5]) or '', '[^\n]+') do
    gone[#gone + 1] = key
    if string.sub(key, 1, 2) == 'r:' then let_go_returned(keys[3], string.sub(key, 3), date)
    else redis.call('HDEL', keys[2], key) end
  end
  if redis.call('EXISTS', keys[5]) == 0 then
    redis.call('ZREM', keys[4], date)
    redis.call('HDEL', keys[6], date)
  end
  return gone
end

-- Forgets claims of sales of one local date: KEYS claims, horizon of these claims; ARGV: the date as yyyymmdd, the natural keys.
local function forget_claims(keys, args)
  if tonumber(args[1]) > tonumber(redis.call('GET', keys[2]) or '0') then redis.call('SET', keys[2], args[1]) end
  return redis.call('HDEL', keys[1], unpack(args, 2))
end

-- Claims the account that every delivery of a sale goes to: KEYS claims, parked sales, horizon; ARGV: (natural key, account id or '',
-- local date as yyyymmdd) triples. The first claim stands. Gives per sale the account, or 0 where its claim may have been forgotten and
-- history must be asked, and 1 where returns are parked for it.
local function claim(keys, args)
  local answers = {}
  local horizon = tonumber(redis.call('GET', keys[3]) or '0')
  for at = 1, #args, 3 do
    local account = redis.call('HGET', keys[1], args[at])
    if not account and tonumber(args[at + 2]) <= horizon then
      account = 0
    elseif not account then
      account = args[at + 1]
      redis.call('HSET', keys[1], args[at], account)
    end
    answers[#answers + 1] = account
    answers[#answers + 1] = redis.call('SISMEMBER', keys[2], args[at])
  end
  return answers
end

-- Finds the account of a return's sale, or parks the return, numbered, until the sale is claimed: KEYS claims, parked sales, this sale's
-- parked events, horizon; ARGV: the sale's natural key, the return's, the event, 1 where history has been asked. Gives the account, or
-- nothing, or 0 where the sale's claim may have been forgotten and history must be asked.
local function find_or_park(keys, args)
  local account = redis.call('HGET', keys[1], args[1])
  if account then return account end
  if args[4] ~= '1' and redis.call('EXISTS', keys[4]) == 1 then return 0 end
  redis.call('SADD', keys[2], args[1])
  redis.call('HSETNX', keys[3], args[2], redis.call('HLEN', keys[3]) .. ' ' .. args[3])
  return nil
end

-- Forgets parked events that have gone on: KEYS parked sales, this sale's parked events; ARGV: the sale's key, the returns' keys.
local function unpark(keys, args)
  redis.call('HDEL', keys[2], unpack(args, 2))
  if redis.call('EXISTS', keys[2]) == 0 then redis.call('SREM', keys[1], args[1]) end
  return #args - 1
end

-- Accounts and the last ledger offset applied, at one moment: KEYS meta, accounts; ARGV: account ids.
local function accounts(keys, args)
  local found = {redis.call('HGET', keys[1], 'ledger') or '-1'}
  for _, name in ipairs(args) do found[#found + 1] = redis.call('HGET', keys[2], name) end
  return found
end

-- What a turn holds: token, until (ms since the epoch), partition, and by 'rule:' and the rule's id the points leased. One whose time is
-- up is void: its points go back. Gives nil where nobody has the turn.
local function running_turn(budgets, turn)
  local held = {}
  local fields = redis.call('HGETALL', turn)
  if #fields == 0 then return nil end
  for at = 1, #fields, 2 do held[fields[at]] = fields[at + 1] end
  local now = redis.call('TIME')
  if tonumber(held['until']) > now[1] * 1000 + math.floor(now[2] / 1000) then return held end
  for field, points in pairs(held) do
    if string.sub(field, 1, 5) == 'rule:' then
      local back, rule = 0 - tonumber(points), string.sub(field, 6)
      redis.call('HINCRBY', budgets, rule, back)
      redis.call('HINCRBY', budgets, rule .. '|' .. held.partition, back)
    end
  end
  redis.call('DEL', turn)
  return nil
end

-- Leases budgets for judging one batch: KEYS budgets, turn; ARGV: partition, token, how long a turn lasts in ms, 1 where all is wanted, from
-- how many points left on workers take turns, then (rule id, budget) pairs. A quarter of what is left goes to whoever asks; near a budget's
-- end, or where all is wanted, everything, and others wait until the turn is given back. Gives 0 where somebody else has the turn, else one
-- lease a rule, 1 in front where the turn was taken. budgets: rule id -> points leased or given, by all; rule id|partition -> by one.
local function lease_budgets(keys, args)
  local held = running_turn(keys[1], keys[2])
  local left, whole, waits = {}, args[4] == '1', false
  for at = 6, #args, 2 do
    local there = math.max(0, tonumber(args[at + 1]) - tonumber(redis.call('HGET', keys[1], args[at]) or '0'))
    left[#left + 1] = there
    whole = whole or (there > 0 and there <= tonumber(args[5]))
    waits = waits or (held and tonumber(held['rule:' .. args[at]] or '0') > 0)
  end
  if held and (whole or waits) then return 0 end
  local answer = {whole and 1 or 0}
  for index, there in ipairs(left) do
    local leased = whole and there or math.floor(there / 4)
    local rule = args[4 + 2 * index]
    redis.call('HINCRBY', keys[1], rule, leased)
    redis.call('HINCRBY', keys[1], rule .. '|' .. args[1], leased)
    if whole then redis.call('HSET', keys[2], 'rule:' .. rule, leased) end
    answer[#answer + 1] = leased
  end
  if whole then
    local now = redis.call('TIME')
    local ends = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(args[3])
    redis.call('HSET', keys[2], 'token', args[2], 'until', string.format('%d', ends), 'partition', args[1])
  end
  return answer
end

-- Gives back what a lease did not use, and the turn: KEYS budgets, turn; ARGV: partition, token, 1 where it was a turn, then (rule id, points
-- unused) pairs. Gives 0, and changes nothing, where the turn's time was up and it is void: what was judged on it does not count.
local function settle_budgets(keys, args)
  if args[3] == '1' then
    local held = running_turn(keys[1], keys[2])
    if not held or held.token ~= args[2] then return 0 end
    redis.call('DEL', keys[2])
  end
  for at = 4, #args, 2 do
    local back = 0 - tonumber(args[at + 1])  -- A minus in front would make 0 to -0, which HINCRBY refuses.
    redis.call('HINCRBY', keys[1], args[at], back)
    redis.call('HINCRBY', keys[1], args[at] .. '|' .. args[1], back)
  end
  return 1
end

-- Makes what a partition took what its ledger says: KEYS budgets; ARGV: partition, then (rule id, points) pairs.
local function restore_budgets(keys, args)
  for at = 2, #args, 2 do
    local field = args[at] .. '|' .. args[1]
    local more = tonumber(args[at + 1]) - tonumber(redis.call('HGET', keys[1], field) or '0')
    redis.call('HINCRBY', keys[1], args[at], more)
    redis.call('HINCRBY', keys[1], field, more)
  end
  return 1
end

-- Adds a fact to its subject (kernels/facts.py): KEYS a hash; ARGV: the subject, the line. A line begins with 16 digits of the instant, a
-- space and 32 digits of the event's key; a subject's lines are kept in order, the first one of an event stands. Gives, as a number, what
-- became of it: 0 added, 1 the same was there, 2 another one of the event was there, 3 it is older than the subject's erasure.
local KEPT = {merged = true, unmerged = true, erased = true}

local function note_fact(keys, args)
  local key, subject, line = keys[1], args[1], args[2]
  local lines = {}
  local kept = KEPT[string.match(line, '^%S+ %S+ (%S+)')]
  local forgotten = false
  for known in string.gmatch(redis.call('HGET', key, subject) or '', '[^\n]+') do
    if string.sub(known, 18, 49) == string.sub(line, 18, 49) then return known == line and 1 or 2 end
    if not kept and string.find(known, '^%S+ %S+ erased ') and string.sub(line, 1, 49) < string.sub(known, 1, 49) then forgotten = true end
    lines[#lines + 1] = known
  end
  if forgotten then return 3 end
  lines[#lines + 1] = line
  table.sort(lines)
  redis.call('HSET', key, subject, table.concat(lines, '\n'))
  return 0
end

-- Forgets facts of a subject: KEYS a hash; ARGV: the subject, the lines. Gives how many are left.
local function drop_facts(keys, args)
  local dropped, lines = {}, {}
  for at = 2, #args do dropped[args[at]] = true end
  for known in string.gmatch(redis.call('HGET', keys[1], args[1]) or '', '[^\n]+') do
    if not dropped[known] then lines[#lines + 1] = known end
  end
  if #lines == 0 then redis.call('HDEL', keys[1], args[1])
  else redis.call('HSET', keys[1], args[1], table.concat(lines, '\n')) end
  return #lines
end

-- Reserves an offer for a member, once for each event: KEYS the member's decisions (hash: event's key -> decision, a JSON list as kernels/offering.py's
-- Made); ARGV: the event's key, from when on decisions are kept (ms), seconds until all of it is forgotten, decisions kept at most, and one
-- JSON list of candidates, best first: {decision, cool-down in ms, member's cap, from when on it counts, channel's cap, likewise}, -1 for
-- none. The first that has room is taken. Gives the decision that stands for the event, '' for none, and of each candidate before it why
-- not. (kernels/offering.py, `no_room`, says the same of a snapshot.) Of a member that was just forgotten (`forget_offers`) none is taken.
local OFFER, DECISION, CHANNEL, GROUP, AT, ENDS = 1, 2, 3, 4, 5, 6
local FORGOTTEN = '-'

local function no_room(candidate, made, kept_max)
  local new, cool, member_max, member_from, channel_max, channel_from = unpack(candidate)
  local has, cooling, own, sent = false, false, 0, 0
  for _, old in ipairs(made) do
    if old[OFFER] == new[OFFER] then
      has = has or old[ENDS] > new[AT]
      cooling = cooling or (cool >= 0 and old[AT] + cool > new[AT])
      if old[AT] >= member_from then own = own + 1 end
    end
    if old[CHANNEL] == new[CHANNEL] and old[GROUP] == 'treated' and old[AT] >= channel_from then sent = sent + 1 end
  end
  if has then return 'already_has' end
  if cooling then return 'cool_down' end
  if (member_max >= 0 and own >= member_max) or #made >= kept_max then return 'cap_member' end
  if channel_max >= 0 and sent >= channel_max then return 'cap_channel' end
  return nil
end

local function reserve_offer(keys, args)
  local key, event = keys[1], args[1]
  local there = redis.call('HGET', key, event)
  if there then return {there} end
  if redis.call('HEXISTS', key, FORGOTTEN) == 1 then return {''} end
  local made, fields = {}, redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    local old = cjson.decode(fields[at + 1])
    if old[AT] < tonumber(args[2]) then redis.call('HDEL', key, fields[at]) else made[#made + 1] = old end
  end
  local answer = {''}
  for _, candidate in ipairs(cjson.decode(args[5])) do
    local why = no_room(candidate, made, tonumber(args[4]))
    if not why then
      answer[1] = args[5 + #answer]
      redis.call('HSET', key, event, answer[1])
      redis.call('EXPIRE', key, args[3])
      return answer
    end
    answer[#answer + 1] = why
  end
  return answer
end

-- Forgets what a member was offered, and leaves a mark in its place: KEYS the member's decisions, redemptions, first purchases; ARGV: seconds that
-- the mark stays. Gives the decisions.
local function forget_offers(keys, args)
  local decisions, fields = {}, redis.call('HGETALL', keys[1])
  for at = 1, #fields, 2 do
    if fields[at] ~= FORGOTTEN then decisions[#decisions + 1] = fields[at + 1] end
  end
  redis.call('DEL', unpack(keys))
  redis.call('HSET', keys[1], FORGOTTEN, '')
  redis.call('EXPIRE', keys[1], args[1])
  return decisions
end

-- Gives a reservation back: KEYS the member's decisions; ARGV: the event's key, the decision as it was reserved.
local function release_offer(keys, args)
  if redis.call('HGET', keys[1], args[1]) ~= args[2] then return 0 end
  return redis.call('HDEL', keys[1], args[1])
end

-- Takes offers' budgets, once for each decision: KEYS the budgets' hash (offer id -> triggers so far), then one string a decision; ARGV:
-- seconds for which a decision's answer is remembered, then (offer id, budget, 1 or, of the control group, 0) triples. Gives 1 where there was
-- room, 0 where it is spent.
local function take_offers(keys, args)
  local answers = {}
  for place = 2, #keys do
    local at = 3 * place - 4
    local room = redis.call('EXISTS', keys[place])
    if room == 0 and tonumber(redis.call('HGET', keys[1], args[at]) or '0') < tonumber(args[at + 1]) then
      redis.call('HINCRBY', keys[1], args[at], args[at + 2])
      redis.call('SET', keys[place], '1', 'EX', args[1])
      room = 1
    end
    answers[#answers + 1] = room
  end
  return answers
end

-- Makes what offers' budgets took no less than what `outcomes` tells: KEYS the budgets' hash; ARGV: (offer id, triggers) pairs.
local function restore_offers(keys, args)
  for at = 1, #args, 2 do
    if tonumber(redis.call('HGET', keys[1], args[at]) or '0') < tonumber(args[at + 1]) then redis.call('HSET', keys[1], args[at], args[at + 1]) end
  end
  return 1
end

-- Writes the states that a batch leads to (sinks/features.py), if they stand where the writer believes they do: KEYS meta, states; ARGV:
-- previous offset, new offset, then (state, seconds that it is kept) pairs. Nothing is written over the mark of what was forgotten, which is
-- one byte long. Gives {1, new offset}, or {0, the offset that they stand at} and changes nothing.
local function keep_states(keys, args)
  local stands = redis.call('HGET', keys[1], 'offset') or '-1'
  if stands ~= args[1] then return {0, tonumber(stands)} end
  for at = 2, #keys do
    if redis.call('STRLEN', keys[at]) ~= 1 then redis.call('SET', keys[at], args[2 * at - 1], 'EX', args[2 * at]) end
  end
  redis.call('HSET', keys[1], 'offset', args[2])
  return {1, tonumber(args[2])}
end

-- Applies events of vouchers if the view still stands where the writer believes it does: KEYS {vouchers}:meta, {vouchers}:codes, {vouchers}:batches; ARGV: previous
-- offset, new offset, one MessagePack of two lists: codes {digest, JSON, ...}, batches {name, JSON, ...}. Gives {1, new offset}, or {0, the
-- offset that it stands at} and changes nothing.
local function apply_vouchers(keys, args)
  local stands = redis.call('HGET', keys[1], 'offset') or '-1'
  if stands ~= args[1] then return {0, tonumber(stands)} end
  if stands == '-1' then redis.call('HDEL', keys[1], 'whole') end
  local codes, batches = unpack(cmsgpack.unpack(args[3]))
  hset_all(keys[2], codes)
  hset_all(keys[3], batches)
  redis.call('HSET', keys[1], 'offset', args[2])
  return {1, tonumber(args[2])}
end

-- Notes that the view is whole, if it stands at this offset: KEYS {vouchers}:meta; ARGV: the offset.
local function whole_vouchers(keys, args)
  if (redis.call('HGET', keys[1], 'offset') or '-1') ~= args[1] then return 0 end
  redis.call('HSET', keys[1], 'whole', '1', 'offset', args[1])
  return 1
end

-- Raised with every change of this file: a worker loads its library over an older one and refuses to run under a newer one.
local function version() return 8 end

redis.register_function{function_name = 'tillstream_version', callback = version, flags = {'no-writes'}}
redis.register_function{function_name = 'tillstream_accounts', callback = accounts, flags = {'no-writes'}}
redis.register_function('tillstream_apply', apply)
redis.register_function('tillstream_forget_expiries', forget_expiries)
redis.register_function('tillstream_take_reviews', take_reviews)
redis.register_function('tillstream_let_go', let_go)
redis.register_function('tillstream_forget_claims', forget_claims)
redis.register_function('tillstream_claim', claim)
redis.register_function('tillstream_find_or_park', find_or_park)
redis.register_function('tillstream_unpark', unpark)
redis.register_function('tillstream_lease_budgets', lease_budgets)
redis.register_function('tillstream_settle_budgets', settle_budgets)
redis.register_function('tillstream_restore_budgets', restore_budgets)
redis.register_function('tillstream_reserve_offer', reserve_offer)
redis.register_function('tillstream_release_offer', release_offer)
redis.register_function('tillstream_forget_offers', forget_offers)
redis.register_function('tillstream_take_offers', take_offers)
redis.register_function('tillstream_restore_offers', restore_offers)
redis.register_function('tillstream_keep_states', keep_states)
redis.register_function('tillstream_note_fact', note_fact)
redis.register_function('tillstream_drop_facts', drop_facts)
redis.register_function('tillstream_apply_vouchers', apply_vouchers)
redis.register_function('tillstream_whole_vouchers', whole_vouchers)
