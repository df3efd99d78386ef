-- Deletes the epoch key for a planned close, if it still is this epoch's: from then on nothing is placed.
--
-- KEYS  1 epoch key
-- Replies: CLOSED | OTHER (no key, or another epoch's)
-- Example: key {id: other} -> OTHER, nothing is deleted
if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'OTHER'} end
redis.call('DEL', KEYS[1])
return {'CLOSED'}
