// Questions to begin with.

export const samples = {
  en: [
    "What is the difference between a stock and a bond?",
    "Why do bond prices fall when interest rates rise?",
    "Explain compound interest with a short example.",
    "Make a table of three ways to diversify a portfolio, with a risk of each.",
    "What does a price-to-earnings ratio tell, and what not?",
    "How does a central bank influence inflation?",
  ],
  zh: [
    "股票和债券有什么区别？",
    "为什么利率上升时债券价格会下跌？",
    "请用一个简短的例子解释复利。",
    "用表格列出三种分散投资的方法及各自的风险。",
    "市盈率能说明什么，不能说明什么？",
    "理财产品的“七日年化收益率”是什么意思？",
  ],
};
