"""One thin Prefect task a stage: identity -> cache -> the stage in a supervised process -> track."""
