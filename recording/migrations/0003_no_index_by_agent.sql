-- Nothing asks for an agent's recordings.
DROP INDEX recording_agent;
