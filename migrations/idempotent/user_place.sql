-- Which bit of a sketch a user sets: 10 components of 52 words of 64 bits. The first 10 bits of
-- the hash say which component (the first takes half of all users, the next a quarter …), the next
-- 38 which of its bits. The flush computes the same (storage/user_places.py).
--
-- One expression without a subquery, although the hash is in it twice: PostgreSQL then takes it
-- into the statement, where a call for each row took five times as long.
CREATE OR REPLACE FUNCTION user_place(user_id text) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT (9 - width_bucket(
            ('x' || left(encode(sha256(convert_to(user_id, 'UTF8')), 'hex'), 12))::bit(48)::bigint
                >> 38,
            '{2,4,8,16,32,64,128,256,512}'::bigint[])) * 3328
        + ((('x' || left(encode(sha256(convert_to(user_id, 'UTF8')), 'hex'), 12))::bit(48)::bigint
                & 274877906943) % 3328)::integer
$$;
