# Says how far this notebook is; on Colab, also writes it out to hand in.
from utils.notebook import sum_up

sum_up(lab="", tests={}, questions=[])
