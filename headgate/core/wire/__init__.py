"""What two processes must agree on: ids, records, links, rights, errors; stands on nothing else of ours."""
