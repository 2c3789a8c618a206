-- name: events_of_payload
-- Newest 100 events of a time range whose payload contains another.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 part text: JSON
SELECT event_timestamp, event_name, event_data FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp < $2 AND event_data @> $3::text::jsonb
ORDER BY event_timestamp DESC LIMIT 100;
