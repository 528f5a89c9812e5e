def step_table(graph):
    return {}
