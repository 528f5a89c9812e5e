import numpy as np
CONDITIONS = ("quiet", "burner")
ORDERS = np.array([[True, False, False, True], [False, True, True, False]])
