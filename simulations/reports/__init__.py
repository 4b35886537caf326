"""From the records of an experiment to what people see of it: its table, sentences and figures."""
